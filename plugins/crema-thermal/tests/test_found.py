"""What thermal sources are found to be: layouts of arrays, radiometric jpegs, counts that are no temperatures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.data.doubts import collect_doubts
from crema_core.errors import MediaError
from crema_core.modality import BuildContext
from crema_thermal.modality import ThermalModality
from crema_thermal.plugin import SPEC

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
KELVIN = np.random.default_rng(0).uniform(285, 310, (9, 12)).astype(np.float32)
COLOURS = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def frames(source: object, **options: object) -> torch.Tensor:
    return ThermalModality(SPEC.parse_options(dict(options)), PLAIN).prepare(source).tensors["frames"]


def doubted(source: object, **options: object) -> list[str]:
    with collect_doubts() as doubts:
        frames(source, **options)
    return [own.text for own in doubts]


def test_every_usual_layout_is_the_same_map(tmp_path: Path) -> None:
    expected = frames(KELVIN)
    for number, own in enumerate((KELVIN[..., None], KELVIN[None], KELVIN[None, None], KELVIN[None, ..., None])):
        assert torch.equal(frames(own), expected)
        np.savez(tmp_path / f"{number}.npz", thermal=own)
        assert torch.equal(frames(tmp_path / f"{number}.npz"), expected)
    assert torch.equal(frames(COLOURS[None].transpose(0, 3, 1, 2)), frames(COLOURS))
    with pytest.raises(MediaError, match="may be one picture with 3 colours per pixel or 3 maps of 9 x 12"):
        frames(COLOURS.transpose(2, 0, 1))


def radiometric(path: Path, marker: int, content: bytes, *, orientation: int = 1, make: str = "") -> Path:
    """Write a jpeg with an application segment in front of its pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if make:
        exif[0x010F] = make
    Image.fromarray(COLOURS).save(path, exif=exif)
    raw, segment = path.read_bytes(), b""
    for start in range(0, len(content), 60_000):
        piece = content[start : start + 60_000]
        segment += bytes([0xFF, marker]) + (len(piece) + 2).to_bytes(2, "big") + piece
    tables = raw.index(b"\xff\xdb")  # behind the picture's own segments
    path.write_bytes(raw[:tables] + segment + raw[tables:])
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_temperatures_of_a_flir_picture_are_turned_with_it(
    tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = radiometric(tmp_path / "a.jpg", 0xE1, b"FLIR\x00" + bytes(40), orientation=orientation)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: SimpleNamespace(kelvin=KELVIN)))
    turned = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
              4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270,
              7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}[orientation]  # fmt: skip
    picture = Image.fromarray(KELVIN)
    expected = np.array(picture if turned is None else picture.transpose(turned))
    assert torch.equal(frames(path), frames(expected))


def test_a_flir_picture_flyr_does_not_read_names_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(path: str) -> object:
        raise ValueError("unknown camera")

    path = radiometric(tmp_path / "a.jpg", 0xE1, b"FLIR\x00" + bytes(40))
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=unpack))
    with pytest.raises(MediaError) as caught:
        frames(path)
    said = str(caught.value)
    assert "flyr does not support it, which does not mean that it is damaged (unknown camera)" in said
    assert "Set the option flir='picture'" in said
    assert frames(path, flir="picture").shape == (1, 3, 8, 8)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(MediaError, match=r"it is cut short \(flyr: unknown camera\)"):
        frames(path)


def test_a_picture_of_dji_with_measurements_is_not_supported_and_not_damaged(tmp_path: Path) -> None:
    path = radiometric(tmp_path / "a.jpg", 0xE3, bytes(100_000), make="DJI")
    with pytest.raises(MediaError) as caught:
        frames(path)
    assert str(caught.value) == (
        f"'{path}' is a DJI R-JPEG with temperatures inside, in a coding that no library here supports; it is not "
        "damaged. Read are FLIR jpegs, tiffs and arrays of temperatures, and finished pictures. Set the option "
        "flir='picture' to take the finished picture, or save the temperatures as a tiff or .npz."
    )
    plain = tmp_path / "b.jpg"
    Image.fromarray(COLOURS).save(plain)
    assert torch.equal(frames(path, flir="picture"), frames(plain))
    for make, size in (("DJI", 400), ("Canon", 100_000)):
        assert torch.equal(frames(radiometric(tmp_path / "c.jpg", 0xE3, bytes(size), make=make)), frames(plain))


def test_usual_temperatures_are_not_doubted() -> None:
    assert doubted(KELVIN) == []
    assert doubted((KELVIN * 100).astype(np.uint16)) == []
    assert doubted(COLOURS) == []


def test_raw_counts_taken_for_kelvin_are_doubted() -> None:
    counts = np.random.default_rng(0).integers(19_000, 22_000, (9, 12), dtype=np.uint16)  # 190 to 220 K
    (text,) = doubted(counts)
    assert text.startswith("The array has 100 % of its pixels below coldest_c=10 °C, in the middle -6")
    assert "counts_per_kelvin for other counts (raw ones are no temperatures)" in text
    assert doubted(counts, window="per_clip") == []
    assert doubted(counts, coldest_c=-90.0) == []
    (text,) = doubted(np.full((9, 12), 500, np.float32))
    assert "above hottest_c=45 °C" in text
