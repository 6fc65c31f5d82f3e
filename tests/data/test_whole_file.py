"""Files that end before they say are refused, whatever holds them; sizes that are merely wrong are not."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from crema_core.data.clips import read_clip
from crema_core.data.whole_file import cut_short
from crema_core.errors import MediaError

CODECS = {
    ".mp4": ("mpeg4", "aac"), ".mov": ("mpeg4", "aac"), ".mkv": ("mpeg4", "aac"), ".webm": ("libvpx", "libopus"),
    ".avi": ("mpeg4", "libmp3lame"), ".ts": ("mpeg2video", "aac"), ".wav": ("", "pcm_s16le"),
    ".mp3": ("", "libmp3lame"), ".ogg": ("", "libopus"), ".opus": ("", "libopus"), ".m4a": ("", "aac"),
    ".aiff": ("", "pcm_s16be"), ".au": ("", "pcm_s16be"), ".caf": ("", "pcm_s16be"), ".w64": ("", "pcm_s16le"),
    ".flv": ("flv1", "aac"), ".asf": ("msmpeg4", "libmp3lame"), ".wmv": ("wmv2", "libmp3lame"),
}  # fmt: skip


@cache
def written(suffix: str) -> bytes:
    """Return a file of two seconds of noise, which is written once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        return encode(Path(folder) / f"a{suffix}").read_bytes()


def write(path: Path, **options: str) -> Path:
    """Write two seconds of noise."""
    if options:
        return encode(path, **options)
    path.write_bytes(written(path.suffix))
    return path


def encode(path: Path, **options: str) -> Path:
    draw = np.random.default_rng(0)
    pictures_in, sound_in = CODECS[path.suffix]
    with av.open(str(path), "w", options=options) as container:
        pictures = container.add_stream(pictures_in, rate=25) if pictures_in else None
        sound = container.add_stream(sound_in, rate=48_000, layout="mono")
        if pictures is not None:
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
            for _ in range(50):
                pixels = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(draw.integers(-9_000, 9_000, (1, 96_000), dtype=np.int16), "s16", "mono")
        frame.sample_rate = 48_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_file_that_is_cut_is_told_from_the_whole(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"a{suffix}")
    assert cut_short(path) is None
    raw = path.read_bytes()
    left = int(len(raw) * share) // 188 * 188 + 100  # not between two packets of a transport stream
    path.write_bytes(raw[:left])
    cause = cut_short(path)
    assert cause is not None
    assert cause.startswith(f"it is cut short, {left} of ")


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_streamed_matroska_file_that_is_cut_is_told_from_the_whole(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", live="1")
    raw = path.read_bytes()
    at = raw.find(bytes.fromhex("18538067")) + 4
    assert raw[at : at + 8] == b"\x01" + b"\xff" * 7, "its size is unknown"
    assert cut_short(path) is None
    path.write_bytes(raw[:-50])
    assert cut_short(path) == f"it is cut short, {len(raw) - 50} of at least {len(raw)} bytes"


def test_a_gif_that_is_cut_is_told_from_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    draw = np.random.default_rng(0)
    first, *others = (Image.fromarray(draw.integers(0, 255, (32, 32), dtype=np.uint8)) for _ in range(4))
    first.save(path, save_all=True, append_images=others, duration=100)
    assert cut_short(path) is None
    raw = path.read_bytes()
    path.write_bytes(raw + b"appended")
    assert cut_short(path) is None
    for share in (0.3, 0.9):
        path.write_bytes(raw[: int(len(raw) * share)])
        assert cut_short(path) is not None


@pytest.mark.parametrize(
    ("whole", "samples"), [(10**6, None), (0, 0), (2**32 - 1, 2**32 - 1), (99, None), (None, 10**6), (10**6, 0)]
)
def test_a_wave_file_whose_size_is_wrong_is_whole(tmp_path: Path, whole: int | None, samples: int | None) -> None:
    path = write(tmp_path / "a.wav")
    raw = bytearray(path.read_bytes())
    for at, value in ((4, whole), (raw.find(b"data") + 4, samples)):
        if value is not None:
            raw[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(raw)
    assert cut_short(path) is None


def test_what_programs_append_to_a_clip_is_no_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes() + b"\xff\xff\xff\xffSEFH and more")
    assert cut_short(path) is None


@pytest.mark.parametrize("suffix", [".aiff", ".au", ".caf", ".w64", ".flv", ".asf", ".wav"])
@pytest.mark.parametrize("more", [b"xxxx", b"LIST and more", bytes(100)])
def test_what_programs_append_to_a_whole_file_is_no_cut(tmp_path: Path, suffix: str, more: bytes) -> None:
    path = write(tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes() + more)
    assert cut_short(path) is None


@pytest.mark.parametrize(
    ("suffix", "mark", "skip", "value"),
    [
        (".aiff", b"FORM", 4, (0x7F000000).to_bytes(4)),
        (".aiff", b"FORM", 4, bytes(4)),
        (".au", b".snd", 8, b"\xff" * 4),
        (".au", b".snd", 8, bytes(4)),
        (".caf", b"data", 4, b"\xff" * 8),
        (".w64", b"riff", 16, b"\xff" * 8),
        (".w64", b"riff", 16, bytes(8)),
        (".flv", b"filesize\0", 9, bytes(8)),
        (".asf", bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 40, bytes(8)),
        (".asf", bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 88, b"\x01"),
    ],
)
def test_a_file_whose_writer_did_not_know_its_length_is_whole(
    tmp_path: Path, suffix: str, mark: bytes, skip: int, value: bytes
) -> None:
    path = write(tmp_path / f"a{suffix}")
    raw = bytearray(path.read_bytes())
    at = raw.find(mark) + skip
    raw[at : at + len(value)] = value
    path.write_bytes(raw)
    assert cut_short(path) is None


def test_an_flv_file_that_was_streamed_is_cut_where_its_last_tag_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flv")
    raw = bytearray(path.read_bytes())
    at = raw.find(b"filesize\0") + 9
    raw[at : at + 8] = bytes(8)
    for left in (len(raw) - 3, len(raw) - 30, len(raw) // 2):
        path.write_bytes(raw[:left])
        cause = cut_short(path)
        assert cause is not None
        assert cause.startswith(f"it is cut short, {left} of at least ")


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts", ".mp4", ".flv", ".asf"])
def test_a_clip_that_is_cut_is_refused_with_its_sizes(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}")
    raw = path.read_bytes()
    left = len(raw) // 2 // 188 * 188 + 100
    path.write_bytes(raw[:left])
    with pytest.raises(MediaError, match=rf"cannot be read: it is cut short, {left} of (at least )?\d+ bytes\. A clip"):
        read_clip(path, num_frames=2)


def test_a_header_of_more_bytes_than_any_file_is_not_sought(tmp_path: Path) -> None:
    content = bytearray(written(".asf"))
    content[16:24] = (1 << 63).to_bytes(8, "little")
    path = tmp_path / "a.asf"
    path.write_bytes(content[: len(content) // 2])
    assert cut_short(path) == f"it is cut short, {len(content) // 2} of {len(content)} bytes"
