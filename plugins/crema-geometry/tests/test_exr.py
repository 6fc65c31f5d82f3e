"""OpenEXR maps: read through the library where it is installed, explained where it is not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from crema_core.errors import MediaError
from crema_geometry.exr import read_exr_depth, read_exr_normals


class StandIn:
    """What the library offers: a file with separate channels."""

    channels_of: ClassVar[dict[str, Any]] = {}

    def __init__(self, path: str, *, separate_channels: bool) -> None:
        assert separate_channels
        if Path(path).read_bytes() != b"exr":
            raise RuntimeError("not an exr")

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def channels(self) -> dict[str, Any]:
        return {name: SimpleNamespace(pixels=pixels) for name, pixels in self.channels_of.items()}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "OpenEXR", SimpleNamespace(File=StandIn))
    path = tmp_path / "a.exr"
    path.write_bytes(b"exr")
    return path


def test_depth_is_the_channel_z(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "channels_of", {"R": np.zeros((2, 3)), "Z": np.full((2, 3), 4.5, np.float16)})
    assert read_exr_depth(file).tolist() == [[4.5] * 3] * 2


def test_normals_are_three_channels(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "channels_of", {name: np.full((2, 3), k) for k, name in enumerate("BGR")})
    assert read_exr_normals(file)[0, 0].tolist() == [2.0, 1.0, 0.0]


def test_other_channels_are_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "channels_of", {"A": np.zeros((2, 3)), "id": np.zeros((2, 3))})
    with pytest.raises(MediaError) as caught:
        read_exr_depth(file)
    assert str(caught.value) == (
        f"'{file}' has the channels A, id. Depth is read from Z, V, Y or R, also of a layer named Depth (in "
        "Blender: switch the pass Z on). Rename the channel, or save the map as .npz with the key depth."
    )
    with pytest.raises(MediaError) as caught:
        read_exr_normals(file)
    assert str(caught.value) == (
        f"'{file}' has the channels A, id. Normals are read from X, Y, Z or R, G, B. Rename the channels, or save the "
        "map as .npz with the key normals."
    )


def test_a_damaged_file_is_named(file: Path) -> None:
    file.write_bytes(b"something else")
    with pytest.raises(MediaError) as caught:
        read_exr_depth(file)
    assert str(caught.value) == (
        f"'{file}' cannot be read: it holds text (OpenEXR). An OpenEXR file is read from .exr. Give the file the "
        "ending of what it holds, or convert it."
    )


def test_without_the_library_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(MediaError) as caught:
        read_exr_depth(tmp_path / "a.exr")
    assert str(caught.value) == (
        f"'{tmp_path / 'a.exr'}' is an OpenEXR file, and the library that reads those is not installed. Accepted "
        'without it: .png, .tif, .npz, .npy. Run: pip install "crema-geometry[exr]"'
    )
