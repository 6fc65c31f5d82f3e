"""Bounds on what one source may take."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crema_core.data import limits
from crema_core.data.images import read_arrays, read_frames, read_image
from crema_core.data.limits import MAX_BYTES, MAX_SECONDS, as_size, max_bytes, max_seconds, require_room
from crema_core.data.unusable import SourceCheck
from crema_core.errors import MediaError, OptionsError
from tests.support.official_datasets import write_clip


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("", 2 * 2**30), ("0", float("inf")), ("3e9", 3e9), ("500MB", 5e8), ("4 GiB", 4 * 2**30), ("1.5gb", 1.5e9),
        ("7", 7), ("2k", 2000),
    ],
)  # fmt: skip
def test_a_bound_on_memory_is_a_number_of_bytes_with_or_without_a_unit(
    monkeypatch: pytest.MonkeyPatch, text: str, num_bytes: float
) -> None:
    monkeypatch.setenv(MAX_BYTES, text)
    assert max_bytes() == num_bytes


@pytest.mark.parametrize("text", ["much", "-1", "4 XB", "1.2.3", "nan"])
def test_a_bound_that_is_none_is_refused_with_what_to_write(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(MAX_BYTES, text)
    monkeypatch.setenv(MAX_SECONDS, text)
    with pytest.raises(OptionsError, match=f"CREMA_MAX_SOURCE_BYTES is '{text}'.*export CREMA_MAX_SOURCE_BYTES=4GB"):
        max_bytes()
    with pytest.raises(OptionsError, match=f"CREMA_MAX_SOURCE_S is '{text}'.*export CREMA_MAX_SOURCE_S=600"):
        max_seconds()


@pytest.mark.parametrize(("name", "text"), [(MAX_BYTES, "much"), (MAX_SECONDS, "soon")])
def test_a_bound_that_is_none_is_refused_before_work_and_never_called_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "one.png")
    monkeypatch.setenv(name, text)
    for refused in (SourceCheck, lambda: limits.timed().__enter__()):
        with pytest.raises(OptionsError, match=f"^{name} is '{text}'. Accepted is "):
            refused()
    if name == MAX_BYTES:  # a reader that is called by itself
        with pytest.raises(OptionsError, match=f"^{name} is '{text}'. Accepted is "):
            read_image(tmp_path / "one.png")


def test_other_bounds_are_told_apart_and_the_default_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [limits.bounds_changed()]
    for number in ("1GB", "4GB", "0"):
        monkeypatch.setenv(MAX_BYTES, number)
        found.append(limits.bounds_changed())
    assert found == ["", "1000000000 bytes, 300 s", "4000000000 bytes, 300 s", "inf bytes, 300 s"]


def test_what_is_too_large_is_named_with_its_size_and_a_setting_that_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_room("a.ply", 2 * 2**30, "points")
    with pytest.raises(MediaError) as caught:
        require_room("a.ply", 24_000_000_001, "1,000,000,000 points")
    assert str(caught.value) == (
        "'a.ply' holds 1,000,000,000 points: 24 GB once decoded. At most 2.1 GB of one source are read, so that a "
        "damaged or hostile file cannot fill the memory. Make it smaller, or allow it with the environment variable: "
        "export CREMA_MAX_SOURCE_BYTES=25GB"
    )
    monkeypatch.setenv(MAX_BYTES, "25GB")
    require_room("a.ply", 24_000_000_001, "1,000,000,000 points")


def test_sizes_read_well() -> None:
    sizes = (512, 1_500_000, 10**9, 99.96e9, 250e9, 36e12)
    assert [as_size(own) for own in sizes] == ["512 bytes", "1.5 MB", "1 GB", "100 GB", "250 GB", "36 TB"]


def test_pictures_and_pages_are_compared_by_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "one.png")
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    monkeypatch.setenv(MAX_BYTES, "3600")
    assert read_image(tmp_path / "one.png").shape == (30, 40, 3)
    with pytest.raises(MediaError, match="holds 2 pages of 40 x 30 pixels: 7,200 bytes once decoded"):
        read_image(tmp_path / "two.tif")
    monkeypatch.setenv(MAX_BYTES, "3599")
    with pytest.raises(MediaError, match=r"one.png' holds 40 x 30 pixels: 3,600 bytes"):
        read_image(tmp_path / "one.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "LA", "P", "RGBA", "I;16", "I", "F", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_that_is_copied_in_strips_is_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int
) -> None:
    from crema_core.data import pictures

    values = np.random.default_rng(0).integers(0, 256, (23, 17, 3), np.uint8)
    image = Image.fromarray(values).convert(mode) if mode != "I;16" else Image.fromarray(values[..., 0].astype("<u2"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path := tmp_path / "a.tif", exif=exif)
    whole = pictures.read_pages(path).values
    monkeypatch.setattr(pictures, "_STRIP", 17 * 4)
    strips = pictures.read_pages(path).values
    assert strips.dtype == whole.dtype
    assert np.array_equal(strips, whole)


def test_frames_of_a_clip_are_compared_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", num_frames=8)
    height, width = read_frames(tmp_path / "a.mp4", num_frames=1).frames.shape[2:]
    monkeypatch.setenv(MAX_BYTES, str(4 * height * width * 3))
    assert len(read_frames(tmp_path / "a.mp4", num_frames=4).frames) == 4
    with pytest.raises(MediaError, match=f"a.mp4' holds 5 pictures of {width} x {height} pixels: "):
        read_frames(tmp_path / "a.mp4", num_frames=5)


def test_arrays_are_compared_by_their_headers_and_the_sizes_of_their_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 100), np.float32))
    np.savez_compressed(tmp_path / "a.npz", one=np.zeros(500, np.float32), two=np.zeros(500, np.float32))
    monkeypatch.setenv(MAX_BYTES, "4500")
    assert read_arrays(tmp_path / "a.npy")[""].shape == (10, 100)
    assert list(read_arrays(tmp_path / "a.npz")) == ["one", "two"]
    monkeypatch.setenv(MAX_BYTES, "3999")
    for name in ("a.npy", "a.npz"):
        with pytest.raises(MediaError, match=rf"{name}' holds .* once decoded. At most 3,999 bytes"):
            read_arrays(tmp_path / name)


def test_an_array_that_announces_more_than_there_is_is_cut_short(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"shape": (10**12,), "fortran_order": False, "descr": "<f4"})
    (tmp_path / "a.npy").write_bytes(head.getvalue() + bytes(40))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(40))
    for name, where in (("a.npy", ""), ("a.npz", " in x.npy")):
        with pytest.raises(MediaError, match=f"cut short, it announces 4 TB{where} and holds "):
            read_arrays(tmp_path / name)


def test_time_is_counted_from_prepare_on_and_looked_at_between_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "a.mp4", num_frames=8)
    monkeypatch.setenv(MAX_SECONDS, "1e-9")
    assert len(read_frames(tmp_path / "a.mp4", num_frames=2).frames) == 2  # a reader by itself has all the time
    with pytest.raises(MediaError) as caught, limits.timed():
        read_frames(tmp_path / "a.mp4", num_frames=2)
    assert str(caught.value) == (
        f"'{tmp_path / 'a.mp4'}' takes longer than 1e-09 s to read. One source may take that long, so that a damaged "
        "or hostile file cannot hold everything up. Cut or convert it, or allow more with the environment variable: "
        "export CREMA_MAX_SOURCE_S=1"
    )
    monkeypatch.setenv(MAX_SECONDS, "0")
    with limits.timed():
        assert len(read_frames(tmp_path / "a.mp4", num_frames=2).frames) == 2
