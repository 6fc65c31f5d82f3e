"""Stacks of maps from files, folders, lists and memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from crema_core.data.images import read_array, read_stack
from crema_core.errors import MediaError

READERS = dict.fromkeys((".npy", ".npz"), partial(read_array, key="field"))


def read(source: object, **settings: object) -> np.ndarray:
    arguments: dict[str, object] = {"what": "a map", "readers": READERS, "num_frames": 2} | settings
    return read_stack(source, **arguments)  # type: ignore[arg-type]


def refusal(source: object, **settings: object) -> str:
    with pytest.raises(MediaError) as caught:
        read(source, **settings)
    return str(caught.value)


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32)[:, None, None].repeat(3, 1).repeat(4, 2)


@pytest.mark.parametrize("kind", ["file", "folder", "list", "array", "tensor"])
def test_every_kind_of_source_gives_the_same_maps(tmp_path: Path, kind: str) -> None:
    maps = numbered(8)
    for number, values in enumerate(maps):
        np.save(tmp_path / f"{number}.npy", values)
    source: object = {
        "folder": str(tmp_path),
        "list": [str(tmp_path / f"{number}.npy") for number in range(8)],
        "array": maps,
        "tensor": torch.from_numpy(maps),
    }.get(kind)
    if kind == "file":
        source = tmp_path / "all.npz"
        np.savez(source, field=maps)
    assert read(source)[:, 0, 0].tolist() == [2, 6]


def test_a_single_map_stays_single(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(1)[0])
    for source in (tmp_path / "a.npy", [tmp_path / "a.npy"], tmp_path, numbered(1), numbered(1)[0]):
        assert read(source, num_frames=4).shape == (1, 3, 4)


def test_vectors_need_their_channels() -> None:
    assert read(np.zeros((3, 4, 2)), channels=2).shape == (1, 3, 4, 2)
    assert read(np.zeros((5, 3, 4, 2)), channels=2).shape == (2, 3, 4, 2)
    assert refusal(np.zeros((3, 4, 3)), channels=2) == (
        "The array has shape (3, 4, 3). A map has shape (H, W, 2) or (T, H, W, 2). Change the layout."
    )


def test_finished_pictures_among_measurements_must_be_bytes() -> None:
    assert read(np.zeros((3, 4, 3), np.uint8), color_bytes=True).shape == (1, 3, 4, 3)
    assert read(np.zeros((2, 3, 4, 3), np.uint8), color_bytes=True).shape == (2, 3, 4, 3)
    assert read(np.zeros((2, 4, 3), np.float32), color_bytes=True).shape == (2, 4, 3)
    assert refusal(np.zeros((2, 2, 4, 3), np.float32), color_bytes=True) == (
        "The array has shape (2, 2, 4, 3). A map has shape (H, W) or (T, H, W), or with 3 uint8 colours last. Change "
        "the layout."
    )


@pytest.mark.parametrize("shape", [(0, 4), (4,), (0, 3, 4)])
def test_nothing_is_not_a_map(shape: tuple[int, ...]) -> None:
    assert refusal(np.zeros(shape)) == (
        f"The array has shape {shape}. A map has shape (H, W) or (T, H, W). Change the layout."
    )


def test_files_of_one_sequence_must_be_alike(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.zeros((3, 4)))
    np.save(tmp_path / "2.npy", np.zeros((5, 4)))
    assert refusal(tmp_path) == (
        f"'{tmp_path / '2.npy'}' holds float64 (1, 5, 4), '{tmp_path / '1.npy'}' float64 (1, 3, 4). Files of one "
        "sequence hold one map each, of equal size and number format. Write them alike."
    )


@pytest.mark.parametrize(("source", "name"), [(None, "NoneType"), ({}, "dict"), ([], "list"), ([1], "list")])
def test_other_sources_are_refused(source: object, name: str) -> None:
    assert refusal(source) == (
        f"A map came as {name}. Accepted: a path, a folder, a list of paths, or an array (H, W) or (T, H, W). Pass one "
        "of these."
    )
