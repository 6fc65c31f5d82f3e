"""Files no modality can read, as a user meets them: the whole refusal of each, and nothing is written."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from crema_core.cli.main import main
from crema_core.data.media import ARRAY_SUFFIXES, CLIP_SUFFIXES, IMAGE_SUFFIXES, SOUND_SUFFIXES
from tests.support.packages import needs_names

MEASURED = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)
READ_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "video": ("A clip or picture", (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)),
    "dense_video": ("A clip or picture", (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)),
    "exo_views": ("A clip or picture", (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)),
    "touch": ("A clip or picture", (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)),
    "audio": ("A sound", SOUND_SUFFIXES),
    "depth": ("A depth map", (*MEASURED, ".exr", ".pfm")),
    "flow": ("A flow field", (*ARRAY_SUFFIXES, ".flo", ".png", ".pfm")),
    "normals": ("A normal map", (*MEASURED, ".exr", ".pfm")),
    "pointcloud": ("A point cloud", (".ply", *ARRAY_SUFFIXES, ".las", ".laz", ".xyz", ".pts", ".pcd", ".e57")),
    "thermal": ("A thermal image", MEASURED),
}
"""What a modality calls its source, and the endings it names."""
AGAIN = "Write or download the file again."
FFMPEG = "FFmpeg reports 'Invalid data found when processing input'"
OTHER = "Give the file the ending of what it holds, or convert it."
CUT = "it is cut short (…)"
"""What the library said stands between the brackets."""
TOO_LARGE = (
    "is larger than 178,956,970 pixels. Larger pictures are not read, so that a damaged or hostile one cannot fill the "
    "memory; this is a limit of Pillow, beside CREMA_MAX_SOURCE_BYTES. Scale it down first, or in Python set "
    "PIL.Image.MAX_IMAGE_PIXELS = None."
)
TEXT = "holds values of type <U1. Measurements are whole numbers or floats. Convert them with values.astype('float32')."


def sentence(what: str, suffixes: tuple[str, ...]) -> str:
    return f"{what} is read from {', '.join(suffixes)}."


CLIP, PICTURE = sentence("A clip", CLIP_SUFFIXES), sentence("A picture", IMAGE_SUFFIXES)
FLOW = sentence("A flow field", (".flo", ".png", ".pfm"))
HUGE_ARRAY = "it is cut short, it announces 4,504 TB in values.npy and holds 128 bytes"
CUT_PLY = "it is cut short: it announces {} rows of at least 12 bytes of 'vertex' and holds 120 bytes"
SOUND, TABLE = sentence("A sound", SOUND_SUFFIXES), sentence("An array", ARRAY_SUFFIXES)


def clip() -> bytes:
    packed = io.BytesIO()
    with av.open(packed, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    return packed.getvalue()


def cut_clip() -> str:
    """What is said of the first 400 bytes of a clip, whose last box is cut."""
    return f"it is cut short, 400 of at least {len(clip())} bytes"


def picture() -> bytes:
    packed = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 60000, (40, 40), dtype=np.uint16)
    Image.fromarray(noise).save(packed, format="PNG")
    return packed.getvalue()


def huge_picture() -> bytes:
    """60,000 x 60,000 pixels in its header."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def array(values: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, values=values)
    return packed.getvalue()


def half_array() -> bytes:
    whole = array(np.random.default_rng(0).random((40, 40, 3)))
    return whole[: len(whole) // 2]


def huge_array() -> bytes:
    """4 PB in its header, more than any process can address."""
    head, packed = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 30)})
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("values.npy", head.getvalue())
    return packed.getvalue()


def letters() -> bytes:
    return array(np.array([["a", "b"], ["c", "d"]]))


def wave(told: int, held: int) -> bytes:
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", told - 8, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data",
                       told - 44)  # fmt: skip
    return head + bytes(held - len(head))


def wave_of_nothing_finite() -> bytes:
    values = np.full(800, np.nan, "<f4").tobytes()
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(values), b"WAVE", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32,
                       b"data", len(values)) + values  # fmt: skip


def cloud(told: int) -> bytes:
    xyz = "".join(f"property float {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {told}\n{xyz}end_header\n"
    return head.encode() + np.zeros((10, 3), "<f4").tobytes()


def flo(told: int) -> bytes:
    return b"PIEH" + struct.pack("<ii", told, told) + bytes(8 * 16)


def damaged(cause: str, sort: str, advice: str = AGAIN) -> str:
    return f"cannot be read: {cause}. {sort} {advice}"


CASES: list[tuple[str, str, Callable[[], bytes], str]] = [
    *(
        (modality, name, make, text)
        for modality in ("video", "dense_video", "exo_views", "touch")
        for name, make, text in (
            ("damaged.mp4", lambda: b"no clip" * 50, damaged(FFMPEG, CLIP)),
            ("text.png", lambda: b"no picture" * 50, damaged("it holds text (Pillow)", PICTURE, OTHER)),
            ("cut.png", lambda: picture()[:300], damaged(CUT, PICTURE)),
        )
    ),
    *(
        (modality, "cut.mp4", lambda: clip()[:400], damaged(cut_clip(), CLIP))
        for modality in ("video", "dense_video", "exo_views", "touch", "thermal")
    ),
    ("audio", "cut.mp4", lambda: clip()[:400], damaged(cut_clip(), SOUND)),
    *((name, "huge.png", huge_picture, TOO_LARGE) for name in ("video", "touch", "depth", "normals", "thermal")),
    ("audio", "damaged.wav", lambda: b"no sound" * 50, damaged(FFMPEG, SOUND)),
    ("audio", "cut.wav", lambda: wave(4044, 1000), damaged("it is cut short, 1000 of 4044 bytes", SOUND)),
    ("audio", "huge.wav", lambda: wave(1 << 30, 1000), damaged("it is cut short, 1000 of 1073741824 bytes", SOUND)),
    ("audio", "silent.mp4", clip, "has no sound track. A sound is read from sound files and from clips that have one. "
     "Name another file, or leave this modality out for this sample."),
    ("audio", "nan.wav", wave_of_nothing_finite,
     "has values that are not finite. Samples are numbers in -1..1. Remove NaN and infinity first."),
    *(
        (modality, "cut.png", lambda: picture()[:300], damaged(CUT, PICTURE))
        for modality in ("depth", "normals", "thermal")
    ),
    ("thermal", "celsius.npz", lambda: array(np.full((4, 4), 21, np.float32)),
     "has a median of 21 K. Accepted are finite temperatures around 150 to 2000 K, as floats or as 100 counts per "
     "kelvin. Set the option unit=celsius for floats in Celsius, or counts_per_kelvin for other counts."),
    ("flow", "cut.png", lambda: picture()[:20], damaged(CUT, FLOW)),
    ("flow", "cut.flo", lambda: flo(8),
     damaged("it is cut short, it announces 8 x 8 vectors and holds 16", FLOW)),
    ("flow", "huge.flo", lambda: flo(100_000),
     damaged("it is cut short, it announces 100000 x 100000 vectors and holds 16", FLOW)),
    ("pointcloud", "cut.ply", lambda: cloud(100), damaged(CUT_PLY.format("100"), sentence(*READ_BY["pointcloud"]))),
    ("pointcloud", "huge.ply", lambda: cloud(4_000_000_000),
     damaged(CUT_PLY.format("4,000,000,000"), sentence(*READ_BY["pointcloud"]))),
    *(
        (modality, name, make, text)
        for modality in ("depth", "flow", "normals", "pointcloud", "thermal")
        for name, make, text in (
            ("text.npz", lambda: b"no arrays" * 50, damaged("it holds text (numpy)", TABLE, OTHER)),
            ("cut.npz", half_array, damaged(CUT, TABLE)),
            ("huge.npz", huge_array, damaged(HUGE_ARRAY, TABLE)),
            ("letters.npz", letters, TEXT),
        )
    ),
]  # fmt: skip


def refusal(modality: str, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `crema show` says, which must leave the folder as it was."""
    before = sorted(path.parent.iterdir())
    capsys.readouterr()
    assert main(["show", str(path), "--modality", modality, "--out", str(path.parent / "picture.png")]) == 1
    assert sorted(path.parent.iterdir()) == before
    out, said = capsys.readouterr()
    assert out == ""
    return said.removeprefix("crema: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("modality", "name", "make", "text"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}", marks=needs_names("modality", case[0])) for case in CASES],
)
def test_a_bad_file_is_refused_in_whole_words(
    modality: str, name: str, make: Callable[[], bytes], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    said = refusal(modality, path, capsys)
    pattern = ".+".join(re.escape(part) for part in f"'{path}' {text}".split("…"))
    assert re.fullmatch(pattern, said), said


@pytest.mark.parametrize("modality", [pytest.param(own, marks=needs_names("modality", own)) for own in READ_BY])
def test_empty_absent_and_other_files_are_refused(
    modality: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, suffixes = READ_BY[modality]
    empty, other, absent = tmp_path / f"a{suffixes[0]}", tmp_path / "a.docx", tmp_path / f"b{suffixes[0]}"
    empty.touch()
    other.write_bytes(b"text")
    accepted = sentence(*READ_BY[modality])
    if suffixes[0] in CLIP_SUFFIXES:
        accepted = CLIP
    assert refusal(modality, empty, capsys) == f"'{empty}' is empty (0 bytes). {accepted} {AGAIN}"
    for path, begins, ends in (
        (absent, "does not exist.", "Check the path."),
        (other, "ends in '.docx'.", "Convert the file, or rename it if its ending is wrong. Nothing was written."),
    ):
        before = re.escape(f"'{path}' {begins} '{modality}' reads ")
        said = re.fullmatch(f"{before}(.*?)[.] {re.escape(ends)}", refusal(modality, path, capsys))
        assert said, path
        assert set(suffixes) <= set(said[1].split(", ")), "torch was not asked, so it is what the package declares"
