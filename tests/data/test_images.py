"""Pictures and arrays with their own number format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crema_core.data.images import read_array, read_image, read_raw_image
from crema_core.data.media import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from crema_core.errors import MediaError

AGAIN = "Write or download the file again."
OTHER = "Give the file the ending of what it holds, or convert it."
SAVE = "Save numbers: numpy.savez(path, name=values) with values of bool, whole numbers or floats."


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    values = np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        read = read_raw_image(tmp_path / name)
        assert read.dtype == np.uint16
        assert np.array_equal(read, values)


def test_float_tiffs_stay_float(tmp_path: Path) -> None:
    values = np.linspace(0, 5, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(read_raw_image(tmp_path / "a.tif"), values)


def test_pages_of_a_tiff_become_a_stack(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((3, 4), level, np.uint16)) for level in (1, 2, 3)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    read = read_raw_image(tmp_path / "a.tiff")
    assert read.shape == (3, 3, 4)
    assert read[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_every_eight_bit_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.shape == (4, 5, 3)
    assert read.dtype == np.uint8
    assert read.min() == 255


def test_measurements_are_not_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(path)
    with pytest.raises(MediaError) as caught:
        read_image(path)
    assert str(caught.value) == (
        f"'{path}' is a picture of uint16 numbers. RGB pictures have 8 bits per channel. Convert it to 8 bits, or give "
        "it to a modality that reads measurements."
    )


@pytest.mark.parametrize("cut", [10, 60])
def test_a_picture_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(MediaError) as caught:
        read_raw_image(path)
    said = str(caught.value)
    assert said.startswith(f"'{path}' cannot be read: it is cut short (Pillow: ")
    assert said.endswith(f"A picture is read from {', '.join(IMAGE_SUFFIXES)}. Write or download the file again.")


def test_arrays_are_found_by_key_or_because_they_are_alone(tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "named.npz", other=np.zeros(1), field=values)
    np.savez(tmp_path / "alone.npz", anything=values)
    np.save(tmp_path / "plain.npy", values)
    for name in ("named.npz", "alone.npz", "plain.npy"):
        assert np.array_equal(read_array(tmp_path / name, key="field"), values)


def test_a_file_without_the_array_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(1), y=np.zeros(1))
    with pytest.raises(MediaError) as caught:
        read_array(path, key="field")
    assert str(caught.value) == (
        f"'{path}' holds the arrays x, y. Several arrays need one named 'field'. Save it with numpy.savez(path, "
        "field=values)."
    )


@pytest.mark.parametrize(
    ("name", "content", "cause", "advice"),
    [
        ("a.npz", "objects", "it holds pickled objects, which are refused because they can run code (numpy)", SAVE),
        ("a.npy", "objects", "it holds pickled objects, which are refused because they can run code (numpy)", SAVE),
        ("a.npz", "half", "it is cut short (numpy: ", AGAIN),
        ("a.npy", "half", "it is cut short (numpy: ", AGAIN),
        ("a.npz", "text", "it holds text (numpy)", OTHER),
        ("a.npy", "png", "it holds a PNG picture (numpy)", OTHER),
        ("a.npz", "zeros", "it holds zeros only (numpy)", AGAIN),
        ("a.npy", "lfs", "it holds a pointer of Git LFS (numpy)", "Run: git lfs pull"),
    ],
)
def test_what_was_found_is_told_from_damage(tmp_path: Path, name: str, content: str, cause: str, advice: str) -> None:
    path = tmp_path / name
    save = np.savez if name == "a.npz" else np.save
    save(path, np.array([{"a": 1}], dtype=object) if content == "objects" else np.arange(40.0))
    raw = path.read_bytes()
    other = {
        "objects": raw,
        "half": raw[: len(raw) // 2],
        "text": b"not an array",
        "png": b"\x89PNG\r\n\x1a\n and more",
        "zeros": bytes(900),
        "lfs": b"version https://git-lfs.github.com/spec/v1\n",
    }
    path.write_bytes(other[content])
    with pytest.raises(MediaError) as caught:
        read_array(path)
    said = str(caught.value)
    assert said.startswith(f"'{path}' cannot be read: {cause}")
    assert said.endswith(f". An array is read from {', '.join(ARRAY_SUFFIXES)}. {advice}")
