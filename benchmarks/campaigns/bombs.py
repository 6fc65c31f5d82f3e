"""Small files that announce or unfold to gigabytes: is each refused, or read within the bound on one source?

Every file is read by a modality's own `prepare` in a process of its own; printed are what came of it, the most memory
that the process took beyond what it had, and the seconds of a processor. An outcome is wrong when it is neither a
sample nor a `MediaError`, when it takes more than `MAX_BYTES` of memory, or longer than `MAX_S`.

    python -m benchmarks.campaigns.bombs [--only png-13000 ply-binary]

Formats whose library is not installed are left out and named. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import torch
from numpy.lib import format as numpy_format
from PIL import Image

from benchmarks.campaigns.media import check, read_all
from crema_core.api.build import build
from crema_core.common.tables import table
from crema_core.data.limits import DEFAULT_BYTES, as_size
from crema_core.modality import Modality
from tests.support.media_endings import sound_of

MAX_S, MAX_WALL_S = 20.0, 300.0
"""Longest time of one, of a processor, and until it is taken for one that hangs."""
MAX_BYTES = DEFAULT_BYTES + DEFAULT_BYTES // 4
"""Most memory of one: its decoded numbers, and what is between a decoder and them."""
MAX_ASKED = 8 * 2**30
"""Memory that it may ask for, most of which is never touched."""
WIDE = 13_000
MUCH = 10**12


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a png."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, color: int, bits: int, rows: int | None = None) -> bytes:
    """Return a png whose pixels are zeros, of which only `rows` are there."""
    samples = {0: 1, 2: 3}[color]
    packer = zlib.compressobj(1)
    row = bytes(1 + width * samples * bits // 8)
    data = b"".join([*(packer.compress(row) for _ in range(height if rows is None else rows)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def npy_head(shape: tuple[int, ...]) -> bytes:
    """Return the header of an array of floats."""
    out = io.BytesIO()
    numpy_format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": "<f4"})
    return out.getvalue()


def npz(name: str, head: bytes, num_zeros: int) -> bytes:
    """Return a compressed archive of one array."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        for _ in range(num_zeros >> 24):
            member.write(bytes(1 << 24))
    return out.getvalue()


def gif(side: int, frames: int) -> bytes:
    """Return an animation of a large screen and pictures of one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    frame = b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    return head + (frame + b"\x02\x02\x44\x01\x00") * frames + b"\x3b"


def webp(side: int) -> bytes:
    """Return an animation of small pictures on a large canvas."""
    out = io.BytesIO()
    pictures = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    raw = bytearray(out.getvalue())
    at = raw.index(b"VP8X") + 12
    raw[at : at + 6] = (side - 1).to_bytes(3, "little") * 2
    return bytes(raw)


def tiff(side: int, pages: int) -> bytes:
    """Return pages of zeros, compressed, that all have the same pixels."""
    strip = zlib.compress(bytes(side * side * 3), 1)
    raw = bytearray(b"II*\x00" + bytes(4) + strip + b"\x00" * (len(strip) % 2))
    bits = len(raw)
    raw += struct.pack("<HHHH", 8, 8, 8, 0)
    link = 4
    for _ in range(pages):
        raw[link : link + 4] = struct.pack("<I", len(raw))
        tags = [(256, side), (257, side), (258, bits), (259, 8), (262, 2), (273, 8), (277, 3), (278, side)]
        tags += [(279, len(strip)), (284, 1)]
        raw += struct.pack("<H", len(tags))
        for tag, value in tags:
            raw += struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
        link = len(raw)
        raw += bytes(4)
    return bytes(raw)


def clip_of_pngs(path: Path, side: int, count: int) -> None:
    """Write a clip whose pictures are large pngs."""
    picture = png(side, side, color=2, bits=8)
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = side, side, "rgb24"
        for number in range(count):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            packet.time_base = stream.codec_context.time_base or 1
            container.mux(packet)


def wav(rate_hz: int, seconds: float = 1.0, channels: int = 1) -> bytes:
    """Return a sound of zeros that states a rate."""
    data = bytes(2 * channels * 1000 * int(max(seconds, 1)))
    form = struct.pack("<HHIIHH", 1, channels, rate_hz & 0xFFFFFFFF, rate_hz * 2 & 0xFFFFFFFF, 2 * channels, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac_that_claims(folder: Path) -> bytes:
    """Return a sound whose header counts 2^36 - 1 samples."""
    raw = bytearray(sound_of(".flac", folder).read_bytes())
    raw[21] |= 0x0F
    raw[22:26] = b"\xff" * 4
    return bytes(raw)


def ogg_that_claims(folder: Path) -> bytes:
    """Return a sound whose last page ends at sample 2^40, with a checksum that is right."""
    raw = bytearray(sound_of(".ogg", folder).read_bytes())
    at = raw.rindex(b"OggS")
    raw[at + 6 : at + 14] = struct.pack("<q", 2**40)
    raw[at + 22 : at + 26] = bytes(4)
    raw[at + 22 : at + 26] = struct.pack("<I", _ogg_checksum(bytes(raw[at:])))
    return bytes(raw)


def _ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def exr(side: int) -> bytes:
    """Return a header of a large map and nothing behind it."""
    channels = b"Z\0" + struct.pack("<iIii", 2, 0, 1, 1) + b"\0"
    window = struct.pack("<4i", 0, 0, side - 1, side - 1)
    attributes = [
        (b"channels", b"chlist", channels), (b"compression", b"compression", b"\x03"),
        (b"dataWindow", b"box2i", window),
        (b"displayWindow", b"box2i", window), (b"lineOrder", b"lineOrder", b"\0"),
        (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
        (b"screenWindowCenter", b"v2f", bytes(8)), (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
    ]  # fmt: skip
    body = b"".join(name + b"\0" + kind + b"\0" + struct.pack("<I", len(own)) + own for name, kind, own in attributes)
    return struct.pack("<II", 20000630, 2) + body + b"\0" + bytes(64)


def ply(form: str, count: int, properties: str, body: bytes) -> bytes:
    """Return points of a header."""
    return f"ply\nformat {form} 1.0\nelement vertex {count}\n{properties}end_header\n".encode() + body


def pcd(how: str, count: int, body: bytes) -> bytes:
    """Return points of a header."""
    head = f"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {count}\nHEIGHT 1\nPOINTS {count}\n"
    return f"{head}DATA {how}\n".encode() + body


def las(count: int, *, compressed: bool) -> bytes:
    """Return a scan whose header counts points."""
    raw = bytearray(375)
    raw[:4], raw[24:26] = b"LASF", b"\x01\x04"
    raw[94:111] = struct.pack("<HIIBHI", 375, 375, 0, 6 | (0x80 if compressed else 0), 30, 0)
    raw[131:179] = struct.pack("<6d", 1, 1, 1, 0, 0, 0)
    raw[235:255] = struct.pack("<QIQ", 0, 0, count)
    return bytes(raw) + bytes(3000)


UNFOLDING = (
    "png-13000", "png-13000-grey", "png-13000-sixteen", "tiff-9000", "tiff-pages", "tiff-depth-pages", "webp-13000",
    "npz-unfolds", "mov-13000",
)  # fmt: skip
"""Those whose contents are there; the others only announce."""
XYZ = "property float x\nproperty float y\nproperty float z\n"


def bombs(folder: Path, only: Sequence[str] | None = None) -> Iterator[tuple[str, str, Path]]:
    """Write the files, all or those of a few names; yield name, modality and path of each."""
    contents: dict[str, tuple[str, str, Callable[[], bytes]]] = {
        "png-13000": ("video", ".png", lambda: png(WIDE, WIDE, color=2, bits=8)),
        "png-13000-grey": ("video", ".png", lambda: png(WIDE, WIDE, color=0, bits=8)),
        "png-13000-sixteen": ("depth", ".png", lambda: png(WIDE, WIDE, color=0, bits=16)),
        "png-60000": ("video", ".png", lambda: png(60_000, 60_000, color=2, bits=8, rows=9)),
        "tiff-9000": ("video", ".tif", lambda: tiff(9_000, 1)),
        "tiff-pages": ("video", ".tif", lambda: tiff(4_000, 3_000)),
        "tiff-depth-pages": ("thermal", ".tif", lambda: tiff(4_000, 3_000)),
        "gif-65535": ("video", ".gif", lambda: gif(65_535, 3)),
        "gif-16000": ("video", ".gif", lambda: gif(16_000, 20)),
        "webp-16000": ("video", ".webp", lambda: webp(16_000)),
        "webp-13000": ("video", ".webp", lambda: webp(WIDE)),
        "npz-unfolds": ("flow", ".npz", lambda: npz("flow", npy_head((144, 2048, 2048)), 9 << 28)),
        "npz-claims": ("flow", ".npz", lambda: npz("flow", npy_head((MUCH,)), 1 << 24)),
        "npy-claims": ("depth", ".npy", lambda: npy_head((MUCH, 4)) + bytes(64)),
        "exr-claims": ("depth", ".exr", lambda: exr(100_000)),
        "pfm-claims": ("depth", ".pfm", lambda: b"Pf\n1000000 1000000\n-1.0\n" + bytes(64)),
        "flo-claims": ("flow", ".flo", lambda: b"PIEH" + struct.pack("<ii", 2**30, 2**30) + bytes(64)),
        "ply-binary": ("pointcloud", ".ply", lambda: ply("binary_little_endian", MUCH, XYZ, bytes(120))),
        "ply-text": ("pointcloud", ".ply", lambda: ply("ascii", MUCH, XYZ, b"0 0 0\n" * 9)),
        "ply-nothing": ("pointcloud", ".ply", lambda: ply("binary_little_endian", MUCH, "", bytes(120))),
        "ply-lists": (
            "pointcloud", ".ply",
            lambda: ply("binary_little_endian", MUCH, XYZ + "property list uchar int i\n", bytes(120)),
        ),
        "pcd-binary": ("pointcloud", ".pcd", lambda: pcd("binary", MUCH, bytes(120))),
        "pcd-text": ("pointcloud", ".pcd", lambda: pcd("ascii", MUCH, b"0 0 0\n" * 9)),
        "pcd-compressed": (
            "pointcloud", ".pcd",
            lambda: pcd("binary_compressed", 10, struct.pack("<II", 3 << 20, 2**32 - 1) + b"\0a\xe0\xff\0" * (1 << 19)),
        ),
        "las-claims": ("pointcloud", ".las", lambda: las(MUCH, compressed=False)),
        "laz-claims": ("pointcloud", ".laz", lambda: las(MUCH, compressed=True)),
        "wav-0hz": ("audio", ".wav", lambda: wav(0)),
        "wav-1hz": ("audio", ".wav", lambda: wav(1)),
        "wav-4ghz": ("audio", ".wav", lambda: wav(2**32 - 1)),
        "wav-100hz": ("audio", ".wav", lambda: wav(100, 2000)),
        "flac-claims": ("audio", ".flac", lambda: flac_that_claims(folder)),
        "ogg-claims": ("audio", ".ogg", lambda: ogg_that_claims(folder)),
    }  # fmt: skip
    for name, (modality, suffix, content) in contents.items():
        if only is None or name in only:
            path = folder / f"{name}{suffix}"
            path.write_bytes(content())
            yield name, modality, path
            path.unlink()
    if only is None or "mov-13000" in only:
        clip_of_pngs(folder / "mov-13000.mov", WIDE, 4)
        yield "mov-13000", "video", folder / "mov-13000.mov"


def peak_bytes() -> int:
    """Return the most memory this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Measured(NamedTuple):
    """What came of one file."""

    name: str
    size: int  # bytes of the file
    outcome: str  # as `benchmarks.campaigns.media.check` has it
    num_bytes: int  # most memory beyond what the process had
    seconds: float  # of a processor

    @property
    def is_wrong(self) -> bool:
        """Whether it is neither read nor refused within the bounds."""
        return self.outcome not in ("read", "refused") or self.num_bytes > MAX_BYTES or self.seconds > MAX_S


def measure(folder: Path, only: Sequence[str] | None = None) -> Iterator[Measured]:
    """Write and read files, each in a process of its own."""
    names = ("video", "audio", "depth", "flow", "thermal", "pointcloud")
    model = build(list(names), backbone="crema-tiny")
    measured = folder / "measured"
    for name, modality, path in bombs(folder, only):
        reader = model.branch(modality).modality

        def read(path: Path, reader: Modality = reader) -> str:
            before, since = peak_bytes(), time.process_time()
            found = check(reader, path)
            measured.write_text(json.dumps([peak_bytes() - before, time.process_time() - since]))
            return found

        measured.write_text("[0, 0]")
        (outcome,) = read_all([path], read, max_s=MAX_WALL_S, max_bytes=MAX_ASKED)
        yield Measured(name, path.stat().st_size, outcome, *json.loads(measured.read_text()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, read, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", default=None, help="names")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for own in measure(Path(folder), given.only):
            found.append(own)
            print(f"{own.name}: {own.outcome[:60]}", file=sys.stderr, flush=True)
    rows = [["bomb", "bytes", "outcome", "memory", "seconds"]]
    rows += [
        [own.name, as_size(own.size), own.outcome[:80] + " (wrong)" * own.is_wrong, as_size(own.num_bytes),
         f"{own.seconds:.1f}"]
        for own in found
    ]  # fmt: skip
    print(table(rows))
    num_wrong, most = sum(own.is_wrong for own in found), max((own.num_bytes for own in found), default=0)
    print(json.dumps({"bombs": {"files": len(found), "wrong": num_wrong, "most_bytes": most}}))
    return 1 if num_wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
