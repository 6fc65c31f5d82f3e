"""Pictures and arrays with their own number format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crema_core.data.images import ARRAY_SUFFIXES, IMAGE_SUFFIXES, read_array, read_image, read_raw_image
from crema_core.errors import MediaError


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
    assert str(caught.value) == (
        f"'{path}' cannot be read: the decoder found invalid data. A picture is read from {', '.join(IMAGE_SUFFIXES)}. "
        "Write or download the file again."
    )


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


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_pickles_and_damage_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    expected = (
        f"'{path}' cannot be read: it is damaged, or no plain numpy array (pickled objects are refused). An array "
        f"is read from {', '.join(ARRAY_SUFFIXES)}. Write or download the file again."
    )
    objects = np.array([{"a": 1}], dtype=object)
    (np.savez if name == "a.npz" else np.save)(path, objects)
    whole = path.read_bytes()
    for content in (whole, whole[: len(whole) // 2], b"not an array"):
        path.write_bytes(content)
        with pytest.raises(MediaError) as caught:
            read_array(path)
        assert str(caught.value) == expected
