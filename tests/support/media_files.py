"""Clips and sounds as people have them: cut without encoding, joined, begun or ended anywhere, with lost packets.

Each is made by the ffmpeg program from a few seconds of a test picture and a rising tone. `WHOLE` are to be read as
ffmpeg reads them, `CUT_SHORT` are to be refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import av
from PIL import Image

from tests.support.ffmpeg import ffmpeg

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=12:d=4")
# A tone that rises and ticks, so that every moment sounds different.
TONE = "aevalsrc=0.3*sin(2*PI*(200+150*t)*t)+0.3*between(mod(t\\,0.7)\\,0\\,0.03)*sin(2*PI*2500*t):s={rate}:d={s}"
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1")
AAC = ("-c:a", "aac", "-b:a", "64k")
MP3 = ("-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0")
Make = Callable[[Path], Path]
WHOLE: dict[str, Make] = {}
"""Name -> what writes the file into a folder."""
CUT_SHORT: dict[str, Make] = {}


def tone(rate: int = 48_000, seconds: float = 4.0) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", TONE.format(rate=rate, s=seconds))


def once(folder: Path, name: str, *words: object) -> Path:
    """Make a file unless an earlier case made it."""
    path = folder / name
    if not path.exists():
        ffmpeg(*words, path)
    return path


def h264(
    folder: Path,
    suffix: str = ".mp4",
    *,
    gop: int = 12,
    b: int = 2,
    sound: bool = False,
    extra: tuple = (),
    tag: str = "",
) -> Path:
    name = f"h264-{gop}-{b}-{'av' if sound else 'v'}{tag}{suffix}"
    inputs = (*PICTURES, *tone()) if sound else PICTURES
    return once(folder, name, *inputs, *H264, "-g", gop, "-bf", b, *extra, *(AAC if sound else ()))


def coded(folder: Path, suffix: str, *codec: object, sound: tuple = ()) -> Path:
    name = f"{codec[1]}{'-av' if sound else ''}{suffix}"
    inputs = (*PICTURES, *tone()) if sound else PICTURES
    return once(folder, name, *inputs, "-pix_fmt", "yuv420p", *codec, *sound)


def sound(folder: Path, name: str, *codec: object, rate: int = 48_000, channels: int = 1, seconds: float = 4.0) -> Path:
    return once(folder, name, *tone(rate, seconds), "-ac", channels, *codec)


def copied(source: Path, path: Path, *before: object, after: tuple = ()) -> Path:
    ffmpeg(*before, "-i", source, *after, "-c", "copy", path)
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def cut(source: Path, path: Path, share: float = 0.6) -> Path:
    raw = source.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return path


def from_packet(source: Path, path: Path, number: int, *, align: int = 188, shift: int = 0) -> Path:
    """Leave out what stands before a packet of pictures, as in recordings that begin anywhere."""
    with av.open(str(source)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][number] // align * align
    path.write_bytes(source.read_bytes()[at + shift :])
    return path


def without_packets(source: Path, path: Path, lost: Callable[[av.Packet, float], bool]) -> Path:
    """Copy a file but for packets that were lost."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        to = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is None or lost(packet, float(packet.dts * packet.time_base)):
                continue
            packet.stream = to[packet.stream.index]
            new.mux(packet)
    return path


def loses_bytes(source: Path, path: Path, *, share: float = 0.03) -> Path:
    """Leave out transport packets, as bad reception does."""
    raw, draw = source.read_bytes(), random.Random(1)
    pieces = [raw[at : at + 188] for at in range(0, len(raw), 188)]
    path.write_bytes(b"".join(own for n, own in enumerate(pieces) if n < 60 or draw.random() > share))
    return path


def last_long(source: Path, path: Path, seconds: float) -> Path:
    """Copy pictures; the last one stays for so many seconds."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        shown_last = max(packets, key=lambda packet: packet.pts)
        shown_last.duration = round(seconds / shown_last.time_base)
        for packet in packets:
            packet.stream = stream
            new.mux(packet)
    return path


def patched(source: Path, path: Path, *changes: tuple[int, bytes]) -> Path:
    raw = bytearray(source.read_bytes())
    for at, values in changes:
        raw[at : at + len(values)] = values
    path.write_bytes(raw)
    return path


def gap(packet: av.Packet, at_s: float) -> bool:
    return packet.stream.type == "audio" and 1 <= at_s < 2


def whole(name: str, make: Make) -> None:
    WHOLE[name] = make


# --- A: cut without encoding
for suffix in (".mp4", ".mov", ".mkv", ".ts"):
    for has_sound in (False, True):
        whole(
            f"cut-{'av' if has_sound else 'v'}{suffix}",
            lambda folder, suffix=suffix, has_sound=has_sound: copied(
                h264(folder, gop=12, sound=has_sound), folder / f"cut-{'av' if has_sound else 'v'}{suffix}", "-ss", 1.3
            ),
        )  # fmt: skip
whole("cut-part.mp4", lambda f: copied(h264(f, sound=True), f / "cut-part.mp4", "-ss", 1.7, "-t", 1.5))
whole(
    "cut-twice.mp4",
    lambda f: copied(copied(h264(f, sound=True), f / "t.mp4", "-ss", 0.6), f / "cut-twice.mp4", "-ss", 0.7),
)
OPEN = ("-x264-params", "open-gop=1:keyint=12:min-keyint=12:scenecut=0")
for suffix in (".mp4", ".mkv", ".ts"):
    whole(
        f"cut-open{suffix}",
        lambda f, suffix=suffix: copied(
            h264(f, ".ts" if suffix == ".ts" else ".mp4", b=3, extra=OPEN, tag="open"),
            f / f"cut-open{suffix}",
            "-ss",
            1.5,
        ),
    )
HEVC = ("-c:v", "libx265", "-x265-params", "keyint=12:log-level=none:pools=1")
whole("cut-hevc.mp4", lambda f: copied(coded(f, ".mp4", *HEVC), f / "cut-hevc.mp4", "-ss", 1.5))
whole("cut-hevc.ts", lambda f: copied(coded(f, ".mp4", *HEVC), f / "cut-hevc.ts", "-ss", 1.5))
whole(
    "cut-vp9.webm",
    lambda f: copied(
        coded(f, ".webm", "-c:v", "libvpx-vp9", "-g", 12, "-deadline", "realtime"), f / "cut-vp9.webm", "-ss", 1.3
    ),
)
whole("cut-mpeg4.avi", lambda f: copied(coded(f, ".mp4", "-c:v", "mpeg4", "-g", 12), f / "cut-mpeg4.avi", "-ss", 1.3))
whole("cut-mpeg4.mp4", lambda f: copied(coded(f, ".mp4", "-c:v", "mpeg4", "-g", 12), f / "cut-mpeg4.mp4", "-ss", 1.3))
MPEG2 = ("-c:v", "mpeg2video", "-g", 12, "-bf", 2, "-r", 25)
whole("cut-mpeg2.ts", lambda f: copied(coded(f, ".ts", *MPEG2), f / "cut-mpeg2.ts", "-ss", 1.3))
whole("cut-mpeg2.mpg", lambda f: copied(coded(f, ".mpg", *MPEG2), f / "cut-mpeg2.mpg", "-ss", 1.3))
whole("cut.m4a", lambda f: copied(sound(f, "whole.m4a", *AAC), f / "cut.m4a", "-ss", 1.3))
whole("cut.mp3", lambda f: copied(sound(f, "whole.mp3", "-c:a", "libmp3lame"), f / "cut.mp3", "-ss", 1.3))
whole("cut.ogg", lambda f: copied(sound(f, "whole.ogg", "-c:a", "libopus"), f / "cut.ogg", "-ss", 1.3))
whole("cut-vorbis.ogg", lambda f: copied(sound(f, "vorbis.ogg", "-c:a", "libvorbis"), f / "cut-vorbis.ogg", "-ss", 1.3))
whole("cut.flac", lambda f: copied(sound(f, "whole.flac", "-c:a", "flac"), f / "cut.flac", "-ss", 1.3))
whole("cut.wav", lambda f: copied(sound(f, "whole.wav"), f / "cut.wav", "-ss", 1.3))
whole("cut.aac", lambda f: copied(sound(f, "whole.aac", *AAC), f / "cut.aac", "-ss", 1.3))
whole("cut-sound.mkv", lambda f: copied(sound(f, "whole.m4a", *AAC), f / "cut-sound.mkv", "-ss", 1.3))

# --- A: begun anywhere
for number, b in ((4, 0), (7, 2), (17, 3)):
    whole(
        f"mid-{number}-{b}.ts",
        lambda f, number=number, b=b: from_packet(h264(f, ".ts", gop=24, b=b), f / f"mid-{number}-{b}.ts", number),
    )
whole("mid-1.ts", lambda f: from_packet(h264(f, ".ts", gop=24, b=0), f / "mid-1.ts", 23))
whole("mid-sound.ts", lambda f: from_packet(h264(f, ".ts", gop=24, sound=True), f / "mid-sound.ts", 5))
whole("mid-unaligned.ts", lambda f: from_packet(h264(f, ".ts", gop=24, b=0), f / "mid-unaligned.ts", 4, shift=77))
whole("mid-open.ts", lambda f: from_packet(h264(f, ".ts", gop=24, b=3, extra=OPEN, tag="open"), f / "mid-open.ts", 12))
whole("mid-mpeg2.ts", lambda f: from_packet(coded(f, ".ts", *MPEG2), f / "mid-mpeg2.ts", 5))
whole("mid-hevc.ts", lambda f: from_packet(coded(f, ".ts", *HEVC), f / "mid-hevc.ts", 5))
whole("mid-mpeg2.mpg", lambda f: from_packet(coded(f, ".mpg", *MPEG2), f / "mid-mpeg2.mpg", 5, align=2048))
whole(
    "mid-copied.mkv",
    lambda f: copied(
        from_packet(h264(f, ".ts", gop=24, b=0), f / "m4.ts", 4), f / "mid-copied.mkv", after=("-copyinkf",)
    ),
)
whole(
    "mid-copied.mp4",
    lambda f: copied(
        from_packet(h264(f, ".ts", gop=24, b=0), f / "m4.ts", 4), f / "mid-copied.mp4", after=("-copyinkf",)
    ),
)
whole(
    "mid-vp8.mkv",
    lambda f: without_packets(
        coded(f, ".mkv", "-c:v", "libvpx", "-g", 12), f / "mid-vp8.mkv", lambda packet, at_s: at_s < 0.4
    ),
)
whole(
    "mid-mpeg4.mkv",
    lambda f: without_packets(
        coded(f, ".mkv", "-c:v", "mpeg4", "-g", 12), f / "mid-mpeg4.mkv", lambda packet, at_s: at_s < 0.4
    ),
)

# --- A: the last picture stays; uneven times; sizes of wave files
for suffix in (".mp4", ".mov", ".mkv", ".webm"):

    def _long(f: Path, suffix: str = suffix) -> Path:
        codec = ("-c:v", "libvpx-vp9", "-deadline", "realtime") if suffix == ".webm" else ("-c:v", "libx264", "-bf", 0)
        return last_long(coded(f, ".mkv" if suffix == ".webm" else ".mp4", *codec), f / f"last-long{suffix}", 3.0)

    whole(f"last-long{suffix}", _long)
whole("last-long-b.mp4", lambda f: last_long(h264(f, b=2), f / "last-long-b.mp4", 3.0))
whole(
    "last-long-copied.mkv",
    lambda f: copied(last_long(h264(f, b=2), f / "last-long-b.mp4", 3.0), f / "last-long-copied.mkv"),
)


def slides(folder: Path) -> Path:
    first, *others = (Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue", "white"))
    path = folder / "slides.gif"
    first.save(path, save_all=True, append_images=others, duration=[100, 100, 100, 3000])
    return path


whole("slides.gif", lambda f: slides(f))
whole("slides.mp4", lambda f: once(f, "slides.mp4", "-i", slides(f), "-fps_mode", "vfr", *H264))
whole("slides.mkv", lambda f: once(f, "slides.mkv", "-i", slides(f), "-fps_mode", "vfr", *H264))
UNEVEN = ("-vf", "setpts='(N+mod(N\\,3)*0.3+gte(N\\,20)*9)/12/TB'", "-fps_mode", "passthrough")
for suffix in (".mp4", ".mkv", ".mov"):
    whole(
        f"uneven{suffix}",
        lambda f, suffix=suffix: once(f, f"uneven{suffix}", *PICTURES, *UNEVEN, *H264, "-enc_time_base", "1:1000"),
    )
whole(
    "size-more.wav", lambda f: patched(sound(f, "whole.wav"), f / "size-more.wav", (4, (400_000).to_bytes(4, "little")))
)
whole(
    "size-eight.wav",
    lambda f: patched(
        sound(f, "whole.wav"), f / "size-eight.wav", (4, (f / "whole.wav").stat().st_size.to_bytes(4, "little"))
    ),
)
whole("size-less.wav", lambda f: patched(sound(f, "whole.wav"), f / "size-less.wav", (4, (99).to_bytes(4, "little"))))
whole("size-0.wav", lambda f: patched(sound(f, "whole.wav"), f / "size-0.wav", (4, bytes(4)), (74, bytes(4))))
whole("size-max.wav", lambda f: patched(sound(f, "whole.wav"), f / "size-max.wav", (4, b"\xff" * 4), (74, b"\xff" * 4)))
whole("size-data-max.wav", lambda f: patched(sound(f, "whole.wav"), f / "size-data-max.wav", (74, b"\xff" * 4)))
whole(
    "size-data.wav",
    lambda f: patched(sound(f, "whole.wav"), f / "size-data.wav", (74, (500_000).to_bytes(4, "little"))),
)


def _piped(f: Path) -> Path:
    (f / "piped.wav").write_bytes(ffmpeg(*tone(), "-f", "wav", "-"))
    return f / "piped.wav"


whole("piped.wav", _piped)


def _piped_mkv(f: Path) -> Path:
    (f / "piped.mkv").write_bytes(ffmpeg(*PICTURES, *tone(), *H264, *AAC, "-f", "matroska", "-"))
    return f / "piped.mkv"


whole("piped.mkv", _piped_mkv)
whole("fragments.mp4", lambda f: h264(f, sound=True, extra=("-movflags", "frag_keyframe+empty_moov"), tag="frag"))

# --- A: lost packets
whole("lost.ts", lambda f: loses_bytes(h264(f, ".ts", gop=12), f / "lost.ts"))
whole("lost-mpeg2.ts", lambda f: loses_bytes(coded(f, ".ts", *MPEG2), f / "lost-mpeg2.ts"))
whole("lost-hevc.ts", lambda f: loses_bytes(coded(f, ".ts", *HEVC), f / "lost-hevc.ts"))
whole("lost-sound.ts", lambda f: loses_bytes(h264(f, ".ts", sound=True), f / "lost-sound.ts"))
whole(
    "lost.mkv", lambda f: without_packets(h264(f, ".mkv", b=0), f / "lost.mkv", lambda packet, at_s: 1.2 < at_s < 1.6)
)
whole(
    "lost-vp9.webm",
    lambda f: without_packets(
        coded(f, ".webm", "-c:v", "libvpx-vp9", "-g", 12, "-deadline", "realtime"),
        f / "lost-vp9.webm",
        lambda packet, at_s: 1.2 < at_s < 1.6,
    ),
)

# --- A: hidden pictures, pictures without times
whole(
    "hidden-vp8.webm",
    lambda f: once(
        f,
        "hidden-vp8.webm",
        *PICTURES,
        "-c:v",
        "libvpx",
        "-auto-alt-ref",
        1,
        "-lag-in-frames",
        12,
        "-g",
        24,
        "-b:v",
        "200k",
    ),
)
whole(
    "hidden-vp9.webm",
    lambda f: once(
        f,
        "hidden-vp9.webm",
        *PICTURES,
        "-c:v",
        "libvpx-vp9",
        "-auto-alt-ref",
        1,
        "-lag-in-frames",
        12,
        "-g",
        24,
        "-cpu-used",
        8,
    ),
)
whole("b.avi", lambda f: coded(f, ".avi", "-c:v", "mpeg4", "-bf", 2, "-g", 12))
whole("b-h264.avi", lambda f: h264(f, ".avi", b=2))
whole("av1.mkv", lambda f: coded(f, ".mkv", "-c:v", "libsvtav1", "-preset", 12, "-g", 12))

# --- B: gaps
whole("gap.mkv", lambda f: without_packets(h264(f, sound=True), f / "gap.mkv", gap))
whole("gap.mp4", lambda f: without_packets(h264(f, sound=True), f / "gap.mp4", gap))
whole("gap.ts", lambda f: without_packets(h264(f, sound=True), f / "gap.ts", gap))
whole("gap-opus.webm", lambda f: without_packets(sound(f, "opus.webm", "-c:a", "libopus"), f / "gap-opus.webm", gap))
whole("gap-opus.ogg", lambda f: without_packets(sound(f, "whole.ogg", "-c:a", "libopus"), f / "gap-opus.ogg", gap))
whole(
    "gap-vorbis.mkv", lambda f: without_packets(sound(f, "vorbis.mkv", "-c:a", "libvorbis"), f / "gap-vorbis.mkv", gap)
)
whole("gap-pcm.mkv", lambda f: without_packets(sound(f, "pcm.mkv", "-c:a", "pcm_s16le"), f / "gap-pcm.mkv", gap))
whole("gap.m4a", lambda f: without_packets(sound(f, "whole.m4a", *AAC), f / "gap.m4a", gap))
whole("gap-mp3.mkv", lambda f: without_packets(sound(f, "mp3.mkv", "-c:a", "libmp3lame"), f / "gap-mp3.mkv", gap))
whole(
    "gaps-many.mkv",
    lambda f: without_packets(
        sound(f, "whole.m4a", *AAC), f / "gaps-many.mkv", lambda packet, at_s: at_s > 0.5 and at_s % 0.4 < 0.15
    ),
)


# --- B: times that begin again
def _pair(f: Path, suffix: str, *, sound: bool) -> tuple[Path, Path]:
    first = h264(f, suffix, sound=sound)
    return first, copied(first, f / f"second-{sound}{suffix}", "-ss", 1.0)


whole("joined.ts", lambda f: joined(f / "joined.ts", *_pair(f, ".ts", sound=False)))
whole("joined-sound.ts", lambda f: joined(f / "joined-sound.ts", *_pair(f, ".ts", sound=True)))
whole("joined-thrice.ts", lambda f: joined(f / "joined-thrice.ts", *(h264(f, ".ts", sound=True),) * 3))


def _later(f: Path) -> Path:
    first = h264(f, ".ts", sound=True)
    return joined(f / "joined-later.ts", first, copied(first, f / "later.ts", after=("-output_ts_offset", 1000)))


whole("joined-later.ts", _later)
whole("joined.mpg", lambda f: joined(f / "joined.mpg", *(coded(f, ".mpg", *MPEG2),) * 2))
whole("joined.mp3", lambda f: joined(f / "joined.mp3", *(sound(f, "plain.mp3", *MP3),) * 2))
whole("joined-tags.mp3", lambda f: joined(f / "joined-tags.mp3", *(sound(f, "whole.mp3", "-c:a", "libmp3lame"),) * 2))
whole("joined.aac", lambda f: joined(f / "joined.aac", *(sound(f, "whole.aac", *AAC),) * 2))
whole("joined.ogg", lambda f: joined(f / "joined.ogg", *(sound(f, "whole.ogg", "-c:a", "libopus"),) * 2))
whole(
    "joined-vorbis.ogg", lambda f: joined(f / "joined-vorbis.ogg", *(sound(f, "vorbis.ogg", "-c:a", "libvorbis"),) * 2)
)
whole("joined-sound-only.ts", lambda f: joined(f / "joined-sound-only.ts", *(sound(f, "only.ts", *AAC),) * 2))


# --- B: what changes inside
def _mp3(f: Path, rate: int, channels: int) -> Path:
    return sound(f, f"plain-{rate}-{channels}.mp3", *MP3, rate=rate, channels=channels, seconds=2.0)


def _aac(f: Path, rate: int, channels: int, suffix: str = ".aac") -> Path:
    return sound(f, f"plain-{rate}-{channels}{suffix}", *AAC, rate=rate, channels=channels, seconds=2.0)


whole("mono-stereo.mp3", lambda f: joined(f / "mono-stereo.mp3", _mp3(f, 44100, 1), _mp3(f, 44100, 2)))
whole("stereo-mono.mp3", lambda f: joined(f / "stereo-mono.mp3", _mp3(f, 44100, 2), _mp3(f, 44100, 1)))
whole("rates.mp3", lambda f: joined(f / "rates.mp3", _mp3(f, 16000, 1), _mp3(f, 44100, 1)))
whole("rates-down.mp3", lambda f: joined(f / "rates-down.mp3", _mp3(f, 44100, 2), _mp3(f, 16000, 1)))
whole("rates.aac", lambda f: joined(f / "rates.aac", _aac(f, 16000, 1), _aac(f, 48000, 2)))
whole("rates.ts", lambda f: joined(f / "rates.ts", _aac(f, 32000, 1, ".ts"), _aac(f, 48000, 2, ".ts")))
whole(
    "rates.ogg",
    lambda f: joined(
        f / "rates.ogg",
        sound(f, "v1.ogg", "-c:a", "libvorbis", rate=44100, channels=1),
        sound(f, "v2.ogg", "-c:a", "libvorbis", rate=32000, channels=2),
    ),
)
whole(
    "sizes.ts",
    lambda f: joined(
        f / "sizes.ts", h264(f, ".ts"), once(f, "small.ts", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=12:d=2", *H264)
    ),
)

# --- B: one clock for pictures and sound
for name, offset in (("sound-late", 0.7), ("sound-early", -0.7)):
    for suffix in (".mp4", ".mkv", ".ts"):

        def _shifted(f: Path, name: str = name, offset: float = offset, suffix: str = suffix) -> Path:
            late = ("-itsoffset", offset) if offset > 0 else ()
            early = ("-itsoffset", -offset) if offset < 0 else ()
            path = f / f"{name}{suffix}"
            ffmpeg(*early, *PICTURES, *late, *tone(), *H264, *AAC, path)
            return path

        whole(f"{name}{suffix}", _shifted)
whole("opus.mkv", lambda f: once(f, "opus.mkv", *PICTURES, *tone(), *H264, "-c:a", "libopus"))
whole(
    "negative.mkv",
    lambda f: copied(
        h264(f, b=2, sound=True), f / "negative.mkv", "-itsoffset", -0.5, after=("-avoid_negative_ts", "disabled")
    ),
)
whole("whole-av.ts", lambda f: h264(f, ".ts", sound=True))
whole("whole.flac", lambda f: sound(f, "whole.flac", "-c:a", "flac"))
whole("whole.m4a", lambda f: sound(f, "whole.m4a", *AAC))

# --- C: display matrices
for degrees in (0, 90, 180, 270):
    for flip in ("", "h", "v"):
        name = f"turned-{degrees}{flip}.mp4"
        whole(
            name,
            lambda f, name=name, degrees=degrees, flip=flip: copied(
                h264(f), f / name, "-display_rotation", degrees, *((f"-display_{flip}flip",) if flip else ())
            ),
        )
whole("turned-90h.mov", lambda f: copied(h264(f), f / "turned-90h.mov", "-display_rotation", 90, "-display_hflip"))

# --- cut short: to be refused
CUT_SHORT |= {
    "short.mp4": lambda f: cut(h264(f, sound=True), f / "short.mp4"),
    "short-fast.mp4": lambda f: cut(h264(f, sound=True, extra=("-movflags", "faststart"), tag="f"), f / "short-fast.mp4"),
    "short.mov": lambda f: cut(copied(h264(f, sound=True), f / "q.mov", after=("-movflags", "faststart")), f / "short.mov"),
    "short-cut.mp4": lambda f: cut(copied(h264(f, sound=True), f / "c.mp4", "-ss", 1.3, after=("-movflags", "faststart")),
                                   f / "short-cut.mp4"),
    "short.mkv": lambda f: cut(h264(f, ".mkv", sound=True), f / "short.mkv"),
    "short-video.mkv": lambda f: cut(h264(f, ".mkv"), f / "short-video.mkv", 0.9),
    "short.webm": lambda f: cut(coded(f, ".webm", "-c:v", "libvpx", sound=("-c:a", "libopus")), f / "short.webm"),
    "short-piped.mkv": lambda f: cut(_piped_mkv(f), f / "short-piped.mkv"),
    "short.ts": lambda f: cut(h264(f, ".ts", sound=True), f / "short.ts", 0.601),
    "short-video.ts": lambda f: cut(h264(f, ".ts"), f / "short-video.ts", 0.601),
    "short.avi": lambda f: cut(coded(f, ".avi", "-c:v", "mpeg4", sound=("-c:a", "libmp3lame")), f / "short.avi"),
    "short.wav": lambda f: cut(sound(f, "whole.wav"), f / "short.wav"),
    "short.flac": lambda f: cut(sound(f, "whole.flac", "-c:a", "flac"), f / "short.flac"),
    "short.ogg": lambda f: cut(sound(f, "whole.ogg", "-c:a", "libopus"), f / "short.ogg"),
    "short.mp3": lambda f: cut(sound(f, "whole.mp3", "-c:a", "libmp3lame"), f / "short.mp3"),
    "short.m4a": lambda f: cut(sound(f, "whole.m4a", *AAC), f / "short.m4a"),
    "short.gif": lambda f: cut(slides(f), f / "short.gif", 0.5),
}  # fmt: skip
