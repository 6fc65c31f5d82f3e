"""FLIR pictures, degrees Celsius, other encoders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.errors import MediaError
from crema_core.modality import BuildContext
from crema_thermal.flir import is_flir
from crema_thermal.modality import ThermalModality
from crema_thermal.plugin import SPEC
from crema_thermal.render import to_celsius
from tests.support import vision_encoders

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))


def frames_of(source: object, **options: object) -> torch.Tensor:
    return ThermalModality(SPEC.parse_options({"colormap": "grey", **options}), PLAIN).prepare(source).tensors["frames"]


@pytest.fixture
def flir(tmp_path: Path) -> Path:
    """A jpeg with FLIR's application segment behind its start marker, as the cameras write it."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 16), (255, 255, 255)).save(path)
    raw = path.read_bytes()
    segment = b"FLIR\x00\x01\x00\x00" + bytes(16)
    path.write_bytes(raw[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + raw[2:])
    return path


def test_a_flir_picture_is_known_by_its_segment(flir: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "b.jpg")
    assert is_flir(flir)
    assert not is_flir(tmp_path / "b.jpg")


def test_temperatures_inside_a_flir_picture_are_read(flir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kelvin = np.full((4, 6), 273.15 + 27.5)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: SimpleNamespace(kelvin=kelvin)))
    for unit in ("kelvin", "celsius"):
        frames = frames_of(flir, unit=unit)
        torch.testing.assert_close(frames, torch.full((1, 3, 8, 8), 0.5), atol=1e-3, rtol=0)


def test_without_the_library_a_flir_picture_is_refused_and_not_taken_for_a_heatmap(
    flir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flyr", None)
    with pytest.raises(MediaError) as caught:
        frames_of(flir)
    assert str(caught.value) == (
        f"'{flir}' is a FLIR jpeg with temperatures inside, and the library that reads them is not installed. Accepted "
        "without it: the finished picture. Run: pip install \"crema-thermal[flir]\", or set the option flir='picture'."
    )
    assert float(frames_of(flir, flir="picture").min()) > 0.95


def test_damaged_measurements_are_named(flir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(path: str) -> object:
        raise ValueError("no magic number")

    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=unpack))
    with pytest.raises(MediaError) as caught:
        frames_of(flir)
    assert str(caught.value) == (
        f"'{flir}' cannot be read: flyr does not support it, which does not mean that it is damaged (no magic "
        "number). A FLIR picture is read from .jpg, .jpeg. Set the option flir='picture' to take the finished picture, "
        "or save the temperatures as a tiff or .npz."
    )


def test_floats_may_be_celsius() -> None:
    values = np.array([[20.0, 36.5]], np.float32)
    torch.testing.assert_close(
        to_celsius(values, 100.0, unit="celsius"), torch.tensor([[20.0, 36.5]]), atol=1e-3, rtol=0
    )
    counts = np.array([[29_315]], np.uint16)
    torch.testing.assert_close(to_celsius(counts, 100.0, unit="celsius"), torch.tensor([[20.0]]), atol=1e-3, rtol=0)


def test_another_encoder_is_an_option(tmp_path: Path) -> None:
    pytest.importorskip("crema_encoders")
    folder = vision_encoders.save_siglip(tmp_path / "siglip")
    options = {"encoder": "siglip", "weights": str(folder), "num_frames": 2}
    modality = ThermalModality(SPEC.parse_options(options), PLAIN)
    modality.load_assets(None)
    sample = modality.prepare(modality.example(torch.Generator().manual_seed(0)))
    assert modality.encode(modality.collate([sample])).values.shape == (1, 2, 4, 8)
