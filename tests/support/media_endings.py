"""A clip or sound in every container whose ending core names, made by the ffmpeg program."""

from __future__ import annotations

from pathlib import Path

from tests.support.ffmpeg import ffmpeg
from tests.support.media_files import PICTURES, Words, tone

_MPEG4_AAC = ("-c:v", "mpeg4", "-c:a", "aac")
_MPEG2_MP2 = ("-c:v", "mpeg2video", "-r", 25, "-c:a", "mp2")
_WINDOWS = ("-c:v", "wmv2", "-c:a", "wmav2")
CLIPS: dict[str, Words] = {
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".3gp", ".3g2"), _MPEG4_AAC),
    **dict.fromkeys((".mpg", ".mpeg", ".vob", ".ts", ".m2ts", ".mts"), _MPEG2_MP2),
    **dict.fromkeys((".wmv", ".asf"), _WINDOWS),
    ".f4v": (*_MPEG4_AAC, "-f", "mp4"),
    ".m4v": (*_MPEG4_AAC, "-f", "mp4"),
    ".qt": (*_MPEG4_AAC, "-f", "mov"),
    ".m2t": (*_MPEG2_MP2, "-f", "mpegts"),
    ".avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    ".divx": ("-c:v", "mpeg4", "-c:a", "libmp3lame", "-f", "avi"),
    ".webm": ("-c:v", "libvpx", "-c:a", "libopus"),
    ".ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    ".flv": ("-c:v", "flv1", "-ar", 44_100, "-c:a", "libmp3lame"),
    ".mxf": ("-c:v", "mpeg2video", "-r", 25, "-c:a", "pcm_s16le"),
    ".gif": ("-an",),
}
SOUNDS: dict[str, Words] = {
    ".wav": (),
    ".flac": (),
    ".mp3": (),
    ".ogg": ("-c:a", "libvorbis"),
    ".oga": ("-c:a", "libvorbis"),
    ".opus": ("-c:a", "libopus"),
    ".m4a": ("-c:a", "aac"),
    ".m4b": ("-c:a", "aac", "-f", "ipod"),
    ".aac": ("-c:a", "aac"),
    ".aiff": (),
    ".aif": (),
    ".aifc": ("-c:a", "pcm_mulaw", "-f", "aiff"),
    ".au": (),
    ".snd": ("-f", "au"),
    ".caf": (),
    ".w64": (),
    ".wma": ("-c:a", "wmav2"),
    ".mka": ("-c:a", "libopus"),
    ".weba": ("-c:a", "libopus", "-f", "webm"),
    ".mp2": (),
    ".ac3": (),
    ".amr": ("-c:a", "libopencore_amrnb", "-ar", 8000, "-ac", 1),
}


def clip_of(suffix: str, folder: Path) -> Path:
    """Write four seconds of pictures, with sound where the container has any."""
    path, words = folder / f"clip{suffix}", CLIPS[suffix]
    ffmpeg(*PICTURES, *(() if "-an" in words else tone()), "-threads", 1, *words, path)
    return path


def sound_of(suffix: str, folder: Path) -> Path:
    """Write four seconds of a tone."""
    path = folder / f"sound{suffix}"
    ffmpeg(*tone(), *SOUNDS[suffix], path)
    return path
