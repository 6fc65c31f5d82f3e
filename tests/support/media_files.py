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
UNEVEN = (
    "-vf", "setpts='(N+mod(N\\,3)*0.3+gte(N\\,20)*9)/12/TB'", "-fps_mode", "passthrough", "-enc_time_base", "1:1000",
)  # fmt: skip
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1")
OPEN = ("-x264-params", "open-gop=1:keyint=12:min-keyint=12:scenecut=0")
HEVC = ("-c:v", "libx265", "-x265-params", "keyint=12:log-level=none:pools=1")
MPEG2 = ("-c:v", "mpeg2video", "-g", 12, "-bf", 2, "-r", 25)
MPEG4 = ("-c:v", "mpeg4", "-g", 12)
VP8 = ("-c:v", "libvpx", "-g", 12)
VP9 = ("-c:v", "libvpx-vp9", "-g", 12, "-deadline", "realtime")
AV1 = ("-c:v", "libsvtav1", "-preset", 12, "-g", 12)
AAC = ("-c:a", "aac", "-b:a", "64k")
MP3 = ("-c:a", "libmp3lame")
PLAIN_MP3 = (*MP3, "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0")
OPUS = ("-c:a", "libopus")
VORBIS = ("-c:a", "libvorbis")
FLAC = ("-c:a", "flac")
FASTSTART = ("-movflags", "faststart")
Make = Callable[[Path], Path]
Words = tuple[object, ...]


def make(name: str, folder: Path) -> Path:
    """Write the file of a name into a folder."""
    return (WHOLE | CUT_SHORT)[name](folder / name)


def tone(rate: int = 48_000, seconds: float = 4.0) -> Words:
    """Return the words that give ffmpeg the tone."""
    return ("-f", "lavfi", "-i", TONE.format(rate=rate, s=seconds))


def once(path: Path, *words: object) -> Path:
    """Run ffmpeg unless the file was made before."""
    if not path.exists():
        ffmpeg(*words, path)
    return path


def h264(
    path: Path, suffix: str = ".mp4", *, gop: int = 12, b: int = 2, sound: bool = False, extra: Words = ()
) -> Path:
    """Write the pictures, and the tone, beside `path`."""
    name = f"h264-{gop}-{b}-{'av' if sound else 'v'}{'-'.join(map(str, extra)).replace(':', '')}{suffix}"
    inputs = (*PICTURES, *tone()) if sound else PICTURES
    return once(path.with_name(name), *inputs, *H264, "-g", gop, "-bf", b, *extra, *(AAC if sound else ()))


def coded(path: Path, suffix: str, *codec: object, sound: Words = ()) -> Path:
    """Write the pictures in another coding beside `path`, with the tone in the coding `sound`."""
    inputs = (*PICTURES, *tone()) if sound else PICTURES
    name = f"{codec[1]}{'-av' if sound else ''}{suffix}"
    return once(path.with_name(name), *inputs, "-pix_fmt", "yuv420p", *codec, *sound)


def tune(path: Path, suffix: str, *codec: object, rate: int = 48_000, channels: int = 1, seconds: float = 4.0) -> Path:
    """Write the tone beside `path`."""
    name = "-".join(map(str, ("tune", *codec, rate, channels, seconds))).replace(":", "") + suffix
    return once(path.with_name(name), *tone(rate, seconds), "-ac", channels, *codec)


def copied(source: Path, path: Path, *before: object, after: Words = ()) -> Path:
    """Copy without encoding."""
    ffmpeg(*before, "-i", source, *after, "-c", "copy", path)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Join files as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def joined_to_part(path: Path, *, sound: bool) -> Path:
    """Join a transport stream and its last three seconds."""
    first = h264(path, path.suffix, sound=sound)
    return joined(path, first, copied(first, path.with_name(f"second-{path.name}"), "-ss", 1.0))


def cut(source: Path, path: Path, share: float = 0.6) -> Path:
    """Leave the first part of the bytes."""
    raw = source.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return path


def from_packet(source: Path, path: Path, number: int, *, align: int = 188, shift: int = 0) -> Path:
    """Leave out what stands before a packet of pictures, as in recordings that begin anywhere."""
    with av.open(str(source)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][number] // align * align
    path.write_bytes(source.read_bytes()[at + shift :])
    return path


def without(source: Path, path: Path, is_lost: Callable[[av.Packet, float], bool]) -> Path:
    """Copy a file but for packets that were lost."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        to = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is None or is_lost(packet, float(packet.dts * packet.time_base)):
                continue
            packet.stream = to[packet.stream.index]
            new.mux(packet)
    return path


def gap(packet: av.Packet, at_s: float) -> bool:
    """Of the second second no sound arrived."""
    return packet.stream.type == "audio" and 1 <= at_s < 2


def gaps(packet: av.Packet, at_s: float) -> bool:
    """Sound came with many short pauses."""
    return packet.stream.type == "audio" and at_s > 0.5 and at_s % 0.4 < 0.15


def loses_bytes(source: Path, path: Path, *, share: float = 0.03) -> Path:
    """Leave out transport packets, as bad reception does."""
    raw, draw = source.read_bytes(), random.Random(1)
    pieces = [raw[at : at + 188] for at in range(0, len(raw), 188)]
    path.write_bytes(b"".join(own for number, own in enumerate(pieces) if number < 60 or draw.random() > share))
    return path


def last_long(source: Path, path: Path, seconds: float = 3.0) -> Path:
    """Copy pictures; the last one stays for so many seconds."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        last = max(packets, key=lambda packet: packet.pts)
        last.duration = round(seconds / last.time_base)
        for packet in packets:
            packet.stream = stream
            new.mux(packet)
    return path


def gif(path: Path, *delays_ms: int) -> Path:
    """Write pictures of one colour each."""
    first, *others = (Image.new("RGB", (64, 64), (40 * n, 255 - 30 * n, 90)) for n in range(len(delays_ms)))
    first.save(path, save_all=True, append_images=others, duration=list(delays_ms))
    return path


def patched(path: Path, *changes: tuple[int, int]) -> Path:
    """Write a wave file with other numbers at some places: 4 is its size, 74 that of its samples."""
    raw = bytearray(tune(path, ".wav").read_bytes())
    for at, value in changes:
        raw[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def piped(path: Path, kind: str, *words: object) -> Path:
    """Write what ffmpeg streams, which cannot go back to fill in sizes."""
    path.write_bytes(ffmpeg(*words, "-f", kind, "-"))
    return path


def shifted(path: Path, *, pictures_s: float = 0.0, sound_s: float = 0.0) -> Path:
    """Write a clip whose pictures or sound begin late."""
    ffmpeg("-itsoffset", pictures_s, *PICTURES, "-itsoffset", sound_s, *tone(), *H264, *AAC, path)
    return path


def edited(source: Path, path: Path, *edits: tuple[float, float]) -> Path:
    """Write another edit list into an MP4 file whose `moov` is last: parts (begin, length) in seconds; begin -1: empty.

    Both tracks get it.
    """
    raw = source.read_bytes()

    def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
        found, at = [], 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4])
            found.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
            at += size
        return found

    def packed(name: bytes, content: bytes) -> bytes:
        return (len(content) + 8).to_bytes(4) + name + content

    movie_scale = int.from_bytes(dict(boxes(dict(boxes(raw))[b"moov"]))[b"mvhd"][12:16])

    def rebuilt(name: bytes, content: bytes, scale: int) -> bytes:
        if name == b"elst":
            rows = b""
            for begin, length in edits:
                place = -1 if begin < 0 else round(begin * scale)
                rows += round(length * movie_scale).to_bytes(4) + place.to_bytes(4, signed=True) + (1 << 16).to_bytes(4)
            return packed(name, bytes(4) + len(edits).to_bytes(4) + rows)
        if name == b"trak":
            mdia = dict(boxes(content))[b"mdia"]
            scale = int.from_bytes(dict(boxes(mdia))[b"mdhd"][12:16])
        if name in (b"moov", b"trak", b"edts"):
            content = b"".join(rebuilt(*own, scale) for own in boxes(content))
        return packed(name, content)

    path.write_bytes(b"".join(rebuilt(*own, 0) for own in boxes(raw)))
    return path


SECOND = 1.3  # of a cut; key frames are a second apart
WHOLE: dict[str, Make] = {
    # Cut without encoding
    **{f"cut-v{own}": lambda to: copied(h264(to), to, "-ss", SECOND) for own in (".mp4", ".mov", ".mkv", ".ts")},
    **{f"cut-av{own}": lambda to: copied(h264(to, sound=True), to, "-ss", SECOND)
       for own in (".mp4", ".mov", ".mkv", ".ts")},
    "cut-part.mp4": lambda to: copied(h264(to, sound=True), to, "-ss", 1.7, "-t", 1.5),
    "cut-twice.mp4": lambda to: copied(
        copied(h264(to, sound=True), to.with_name("cut-once.mp4"), "-ss", 0.6), to, "-ss", 0.7),
    **{f"cut-open{own}": lambda to: copied(h264(to, b=3, extra=OPEN), to, "-ss", 1.5) for own in (".mp4", ".mkv")},
    "cut-open.ts": lambda to: copied(h264(to, ".ts", b=3, extra=OPEN), to, "-ss", 1.5),
    **{f"cut-hevc{own}": lambda to: copied(coded(to, ".mp4", *HEVC), to, "-ss", 1.5)
       for own in (".mp4", ".ts", ".mkv")},
    **{f"cut-mpeg4{own}": lambda to: copied(coded(to, ".mp4", *MPEG4), to, "-ss", SECOND) for own in (".mp4", ".avi")},
    **{f"cut-mpeg2{own}": lambda to: copied(coded(to, to.suffix, *MPEG2), to, "-ss", SECOND)
       for own in (".ts", ".mpg")},
    **{f"cut-av1{own}": lambda to: copied(coded(to, ".mkv", *AV1), to, "-ss", SECOND) for own in (".mkv", ".mp4")},
    "cut-vp8.webm": lambda to: copied(coded(to, ".webm", *VP8), to, "-ss", SECOND),
    "cut-vp9.webm": lambda to: copied(coded(to, ".webm", *VP9), to, "-ss", SECOND),
    "cut-mjpeg.avi": lambda to: copied(coded(to, ".avi", "-c:v", "mjpeg"), to, "-ss", SECOND),
    "cut-ffv1.mkv": lambda to: copied(coded(to, ".mkv", "-c:v", "ffv1"), to, "-ss", SECOND),
    "cut-huffyuv.avi": lambda to: copied(
        coded(to, ".avi", "-pix_fmt", "yuv422p", "-c:v", "huffyuv"), to, "-ss", SECOND),
    "cut-prores.mov": lambda to: copied(
        once(to.with_name("prores.mov"), *PICTURES, "-c:v", "prores"), to, "-ss", SECOND),
    "cut-pcm.mov": lambda to: copied(
        once(to.with_name("pcm.mov"), *PICTURES, *tone(), *H264, "-c:a", "pcm_s16le"), to, "-ss", SECOND),
    "cut.m4a": lambda to: copied(tune(to, ".m4a", *AAC), to, "-ss", SECOND),
    "cut-alac.m4a": lambda to: copied(tune(to, ".m4a", "-c:a", "alac"), to, "-ss", SECOND),
    "cut.mp3": lambda to: copied(tune(to, ".mp3", *MP3), to, "-ss", SECOND),
    "cut.ogg": lambda to: copied(tune(to, ".ogg", *OPUS), to, "-ss", SECOND),
    "cut-vorbis.ogg": lambda to: copied(tune(to, ".ogg", *VORBIS), to, "-ss", SECOND),
    "cut-opus.webm": lambda to: copied(tune(to, ".webm", *OPUS), to, "-ss", SECOND),
    "cut.flac": lambda to: copied(tune(to, ".flac", *FLAC), to, "-ss", SECOND),
    "cut.wav": lambda to: copied(tune(to, ".wav"), to, "-ss", SECOND),
    "cut-24.wav": lambda to: copied(tune(to, ".wav", "-c:a", "pcm_s24le"), to, "-ss", SECOND),
    "cut.aac": lambda to: copied(tune(to, ".aac", *AAC), to, "-ss", SECOND),
    "cut-sound.mkv": lambda to: copied(tune(to, ".m4a", *AAC), to, "-ss", SECOND),
    "edits-two.mp4": lambda to: edited(h264(to, sound=True), to, (0.5, 1.0), (2.25, 1.0)),
    "edits-back.mp4": lambda to: edited(h264(to, sound=True), to, (2.25, 1.0), (0.5, 1.0)),
    "edits-late.mp4": lambda to: edited(h264(to), to, (-1, 0.75), (0.5, 2.0)),
    "edits-end.mp4": lambda to: edited(h264(to, b=0), to, (0.0, 2.0)),
    "edits.m4a": lambda to: edited(tune(to, ".m4a", *AAC), to, (0.5, 2.0)),
    # Begun anywhere
    "mid-4.ts": lambda to: from_packet(h264(to, ".ts", gop=24, b=0), to, 4),
    "mid-7.ts": lambda to: from_packet(h264(to, ".ts", gop=24), to, 7),
    "mid-17.ts": lambda to: from_packet(h264(to, ".ts", gop=24, b=3), to, 17),
    "mid-23.ts": lambda to: from_packet(h264(to, ".ts", gop=24, b=0), to, 23),
    "mid-sound.ts": lambda to: from_packet(h264(to, ".ts", gop=24, sound=True), to, 5),
    "mid-unaligned.ts": lambda to: from_packet(h264(to, ".ts", gop=24, b=0), to, 4, shift=77),
    "mid-open.ts": lambda to: from_packet(h264(to, ".ts", gop=24, b=3, extra=OPEN), to, 12),
    "mid-mpeg2.ts": lambda to: from_packet(coded(to, ".ts", *MPEG2), to, 5),
    "mid-mpeg2.mpg": lambda to: from_packet(coded(to, ".mpg", *MPEG2), to, 5, align=2048),
    "mid-hevc.ts": lambda to: from_packet(coded(to, ".ts", *HEVC), to, 5),
    **{f"mid-copied{own}": lambda to: copied(
        from_packet(h264(to, ".ts", gop=24, b=0), to.with_name("begun.ts"), 4), to, after=("-copyinkf",))
       for own in (".mkv", ".mp4")},
    "mid-vp8.mkv": lambda to: without(coded(to, ".mkv", *VP8), to, lambda packet, at_s: at_s < 0.4),
    "mid-mpeg4.mkv": lambda to: without(coded(to, ".mkv", *MPEG4), to, lambda packet, at_s: at_s < 0.4),
    # The last picture stays; uneven times
    **{f"last-long{own}": lambda to: last_long(h264(to, b=0), to) for own in (".mp4", ".mov", ".mkv")},
    "last-long.webm": lambda to: last_long(coded(to, ".webm", *VP9), to),
    "last-long-b.mp4": lambda to: last_long(h264(to), to),
    "slides.gif": lambda to: gif(to, 100, 100, 100, 3000),
    "delays.gif": lambda to: gif(to, 100, 700, 50, 1200, 60, 900),
    **{f"slides{own}": lambda to: once(to, "-i", gif(to.with_name("base.gif"), 100, 100, 100, 3000), "-fps_mode", "vfr",
                                       *H264) for own in (".mp4", ".mkv")},
    **{f"uneven{own}": lambda to: once(to, *PICTURES, *UNEVEN, *H264) for own in (".mp4", ".mkv", ".mov")},
    "uneven.webm": lambda to: once(to, *PICTURES, *UNEVEN, *VP9),
    # Sizes of wave files that are off, and files that were streamed
    "size-more.wav": lambda to: patched(to, (4, 400_000)),
    "size-eight.wav": lambda to: patched(to, (4, tune(to, ".wav").stat().st_size)),
    "size-less.wav": lambda to: patched(to, (4, 99)),
    "size-0.wav": lambda to: patched(to, (4, 0), (74, 0)),
    "size-max.wav": lambda to: patched(to, (4, 2**32 - 1), (74, 2**32 - 1)),
    "size-data-max.wav": lambda to: patched(to, (74, 2**32 - 1)),
    "size-data.wav": lambda to: patched(to, (74, 500_000)),
    "piped.wav": lambda to: piped(to, "wav", *tone()),
    "piped.mkv": lambda to: piped(to, "matroska", *PICTURES, *tone(), *H264, *AAC),
    "fragments.mp4": lambda to: h264(to, sound=True, extra=("-movflags", "frag_keyframe+empty_moov")),
    # Lost packets
    "lost.ts": lambda to: loses_bytes(h264(to, ".ts"), to),
    "lost-mpeg2.ts": lambda to: loses_bytes(coded(to, ".ts", *MPEG2), to),
    "lost-hevc.ts": lambda to: loses_bytes(coded(to, ".ts", *HEVC), to),
    "lost-sound.ts": lambda to: loses_bytes(h264(to, ".ts", sound=True), to),
    "lost.mkv": lambda to: without(h264(to, ".mkv", b=0), to, lambda packet, at_s: 1.2 < at_s < 1.6),
    "lost-vp9.webm": lambda to: without(coded(to, ".webm", *VP9), to, lambda packet, at_s: 1.2 < at_s < 1.6),
    # Hidden pictures, pictures without times of their own, halves of pictures
    "hidden-vp8.webm": lambda to: once(to, *PICTURES, *VP8, "-auto-alt-ref", 1, "-lag-in-frames", 12, "-b:v", "200k"),
    "hidden-vp9.webm": lambda to: once(to, *PICTURES, "-c:v", "libvpx-vp9", "-auto-alt-ref", 1, "-lag-in-frames", 12,
                                       "-cpu-used", 8),
    "b.avi": lambda to: once(to, *PICTURES, *MPEG4, "-bf", 2),
    "b-h264.avi": lambda to: h264(to, ".avi"),
    "av1.mkv": lambda to: coded(to, ".mkv", *AV1),
    "whole.mpg": lambda to: coded(to, ".mpg", *MPEG2, sound=("-c:a", "mp2")),
    "interlaced.ts": lambda to: once(to, *PICTURES, *H264, "-r", 25, "-flags", "+ilme+ildct", "-x264opts", "tff=1"),
    # Gaps
    **{f"gap{own}": lambda to: without(h264(to, sound=True), to, gap) for own in (".mkv", ".mp4", ".ts")},
    "gap-opus.webm": lambda to: without(tune(to, ".webm", *OPUS), to, gap),
    "gap-opus.ogg": lambda to: without(tune(to, ".ogg", *OPUS), to, gap),
    "gap-vorbis.mkv": lambda to: without(tune(to, ".mkv", *VORBIS), to, gap),
    "gap-pcm.mkv": lambda to: without(tune(to, ".mkv", "-c:a", "pcm_s16le"), to, gap),
    "gap-mp3.mkv": lambda to: without(tune(to, ".mkv", *MP3), to, gap),
    "gap.m4a": lambda to: without(tune(to, ".m4a", *AAC), to, gap),
    "gap-long.mkv": lambda to: without(tune(to, ".m4a", *AAC, seconds=20), to, lambda packet, at_s: 2 <= at_s < 17),
    **{f"gaps-many{own}": lambda to: without(tune(to, ".m4a", *AAC), to, gaps) for own in (".mkv", ".m4a")},
    "gaps-many.ts": lambda to: without(h264(to, sound=True), to, gaps),
    **{f"gap-both{own}": lambda to: without(h264(to, sound=True, gop=6, b=0), to, lambda packet, at_s: 1 <= at_s < 2.5)
       for own in (".mkv", ".ts")},
    # Times that begin again
    "joined.ts": lambda to: joined_to_part(to, sound=False),
    "joined-sound.ts": lambda to: joined_to_part(to, sound=True),
    "joined-thrice.ts": lambda to: joined(to, *(h264(to, ".ts", sound=True),) * 3),
    "joined-later.ts": lambda to: joined(to, h264(to, ".ts", sound=True), copied(
        h264(to, ".ts", sound=True), to.with_name("later.ts"), after=("-output_ts_offset", 1000))),
    "joined-tune.ts": lambda to: joined(to, *(tune(to, ".ts", *AAC),) * 2),
    "joined.mpg": lambda to: joined(to, *(coded(to, ".mpg", *MPEG2),) * 2),
    "joined.mp3": lambda to: joined(to, *(tune(to, ".mp3", *PLAIN_MP3),) * 2),
    "joined-tags.mp3": lambda to: joined(to, *(tune(to, ".mp3", *MP3),) * 2),
    "joined.aac": lambda to: joined(to, *(tune(to, ".aac", *AAC),) * 2),
    "joined.ogg": lambda to: joined(to, *(tune(to, ".ogg", *OPUS),) * 2),
    "joined.opus": lambda to: joined(to, *(tune(to, ".opus", *OPUS),) * 2),
    "joined-vorbis.ogg": lambda to: joined(to, *(tune(to, ".ogg", *VORBIS),) * 2),
    # What changes inside
    "mono-stereo.mp3": lambda to: joined(to, *(tune(to, ".mp3", *PLAIN_MP3, rate=44100, channels=n, seconds=2)
                                               for n in (1, 2))),
    "stereo-mono.mp3": lambda to: joined(to, *(tune(to, ".mp3", *PLAIN_MP3, rate=44100, channels=n, seconds=2)
                                               for n in (2, 1))),
    "rates.mp3": lambda to: joined(to, *(tune(to, ".mp3", *PLAIN_MP3, rate=rate, seconds=2)
                                         for rate in (16000, 44100))),
    "rates-down.mp3": lambda to: joined(to, tune(to, ".mp3", *PLAIN_MP3, rate=44100, channels=2, seconds=2),
                                        tune(to, ".mp3", *PLAIN_MP3, rate=16000, seconds=2)),
    **{f"rates{own}": lambda to: joined(to, tune(to, to.suffix, *AAC, rate=32000, seconds=2),
                                        tune(to, to.suffix, *AAC, channels=2, seconds=2)) for own in (".aac", ".ts")},
    "sizes.ts": lambda to: joined(to, h264(to, ".ts"), once(
        to.with_name("small.ts"), "-f", "lavfi", "-i", "testsrc2=s=64x48:r=12:d=2", *H264)),
    # One clock for pictures and sound
    **{f"sound-late{own}": lambda to: shifted(to, sound_s=0.7) for own in (".mp4", ".mkv", ".ts")},
    **{f"sound-early{own}": lambda to: shifted(to, pictures_s=0.7) for own in (".mp4", ".mkv", ".ts")},
    "late.m4a": lambda to: copied(tune(to, ".m4a", *AAC), to, "-itsoffset", 0.8),
    "opus.mkv": lambda to: once(to, *PICTURES, *tone(), *H264, *OPUS),
    "negative.mkv": lambda to: copied(h264(to, sound=True), to, "-itsoffset", -0.5,
                                      after=("-avoid_negative_ts", "disabled")),
    "whole.ts": lambda to: h264(to, ".ts", sound=True),
    "whole.flac": lambda to: tune(to, ".flac", *FLAC),
    "whole.m4a": lambda to: tune(to, ".m4a", *AAC),
    # Display matrices
    **{f"turned-{degrees}{flip}{own}": lambda to, degrees=degrees, flip=flip: copied(
        h264(to), to, "-display_rotation", degrees, *((f"-display_{flip}flip",) if flip else ()))
       for degrees in (0, 90, 180, 270) for flip in ("", "h", "v") for own in (".mp4", ".mov", ".mkv")},
}  # fmt: skip
"""Name -> what writes the file, given its path."""
CUT_SHORT: dict[str, Make] = {
    "short.mp4": lambda to: cut(h264(to, sound=True), to),
    "short-fast.mp4": lambda to: cut(h264(to, sound=True, extra=FASTSTART), to),
    "short.mov": lambda to: cut(copied(h264(to, sound=True), to.with_name("fast.mov"), after=FASTSTART), to),
    "short-cut.mp4": lambda to: cut(
        copied(h264(to, sound=True), to.with_name("cut-fast.mp4"), "-ss", SECOND, after=FASTSTART), to),
    "short.mkv": lambda to: cut(h264(to, ".mkv", sound=True), to),
    "short-video.mkv": lambda to: cut(h264(to, ".mkv"), to, 0.9),
    "short.webm": lambda to: cut(coded(to, ".webm", *VP8, sound=OPUS), to),
    "short-piped.mkv": lambda to: cut(WHOLE["piped.mkv"](to.with_name("piped.mkv")), to),
    "short.ts": lambda to: cut(h264(to, ".ts", sound=True), to, 0.601),
    "short-video.ts": lambda to: cut(h264(to, ".ts"), to, 0.601),
    "short.avi": lambda to: cut(coded(to, ".avi", *MPEG4, sound=MP3), to),
    "short.wav": lambda to: cut(tune(to, ".wav"), to),
    "short.flac": lambda to: cut(tune(to, ".flac", *FLAC), to),
    "short.ogg": lambda to: cut(tune(to, ".ogg", *OPUS), to),
    "short.mp3": lambda to: cut(tune(to, ".mp3", *MP3), to),
    "short.m4a": lambda to: cut(tune(to, ".m4a", *AAC), to),
    "short.gif": lambda to: cut(gif(to.with_name("base.gif"), 100, 100, 100, 3000), to, 0.5),
}  # fmt: skip
