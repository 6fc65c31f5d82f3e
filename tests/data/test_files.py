"""What every reader says about files it cannot read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crema_core.data.files import check_file, describe_source, list_files, require_numbers
from crema_core.errors import MediaError


def refusal(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        check_file(path, what="a clip", suffixes=(".mp4", ".gif"))
    return str(caught.value)


def test_a_good_file_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "a.MP4"
    path.write_bytes(b"x")
    assert check_file(str(path), what="a clip", suffixes=(".mp4",)) == path


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert refusal(path) == f"'{path}' does not exist. A clip is read from .mp4, .gif. Check the path."


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"'{tmp_path}' is a folder. A clip is read from .mp4, .gif. Name a file inside it."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    assert refusal(path) == (
        f"'{path}' is empty (0 bytes). A clip is read from .mp4, .gif. Write or download the file again."
    )


@pytest.mark.parametrize(("name", "found"), [("a.txt", "ends in '.txt'"), ("a", "has no ending")])
def test_another_type_is_refused_by_its_ending(tmp_path: Path, name: str, found: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    assert refusal(path) == (
        f"'{path}' {found}. A clip is read from .mp4, .gif. Convert the file, or pass its values as an array."
    )


def test_files_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.png", "f100.PNG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    found = list_files(tmp_path, what="a picture", suffixes=(".png",))
    assert [path.name for path in found] == ["f9.png", "f10.png", "f100.PNG"]


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        list_files(tmp_path, what="a picture", suffixes=(".png",))
    assert str(caught.value) == (
        f"The folder '{tmp_path}' holds no file that can be read here. A picture is read from .png. Put such files "
        "into the folder, or name another one."
    )


def test_a_source_is_described_by_type_shape_and_number_format() -> None:
    import torch

    assert describe_source(torch.zeros(2, 3)) == "Tensor of shape (2, 3) and type float32"
    assert describe_source({}) == "dict"


@pytest.mark.parametrize(
    "values", [np.array(["a"]), np.array([None]), np.array([1j])], ids=["text", "object", "complex"]
)
def test_what_is_no_measurement_is_refused(values: np.ndarray) -> None:
    with pytest.raises(MediaError) as caught:
        require_numbers(values, name="'a.npy'")
    assert str(caught.value) == (
        f"'a.npy' holds values of type {values.dtype}. Measurements are whole numbers or floats. Convert them with "
        "values.astype('float32')."
    )


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "float64"])
def test_whole_numbers_and_floats_are_measurements(dtype: str) -> None:
    require_numbers(np.zeros(2, dtype), name="'a.npy'")
