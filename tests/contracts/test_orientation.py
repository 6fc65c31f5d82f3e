"""Pictures that lie on their side, as phones store them, are seen upright through every door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from crema_core.modality import BuildContext, Modality
from crema_core.plugins import registry
from tests.support.packages import needs_names

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
COUNTS = np.random.default_rng(1).integers(28_000, 31_000, (40, 56), dtype=np.uint16)
PICTURES = ("video", "dense_video", "exo_views", "touch", "thermal", "normals")
MEASURED = ("depth", "thermal")


def build(name: str) -> Modality:
    spec = registry.resolve(name).spec
    modality: Modality = spec.load_factory()(spec.options(), BuildContext(image_size=32))
    return modality


def lying(path: Path, values: np.ndarray, orientation: int) -> tuple[Path, np.ndarray]:
    """Write a picture with its orientation; return it and what Pillow shows of it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    with Image.open(path) as picture:
        return path, np.array(ImageOps.exif_transpose(picture))


def frames(modality: Modality, source: object) -> torch.Tensor:
    return modality.prepare(source).tensors["frames"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("modality", [pytest.param(name, marks=needs_names("modality", name)) for name in PICTURES])
def test_pictures_are_seen_upright(modality: str, orientation: int, tmp_path: Path) -> None:
    path, shown = lying(tmp_path / "a.jpg", NOISE, orientation)
    upright = tmp_path / "b.png"
    Image.fromarray(shown).save(upright)
    built = build(modality)
    expected = frames(built, upright)
    for source in (str(path), path, [str(path)], tmp_path / "a.jpg"):
        assert torch.equal(frames(built, source), expected)
    if modality != "exo_views":
        assert torch.equal(frames(built, Image.open(path)), expected)
    else:
        assert torch.equal(frames(built, [Image.open(path)]), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("modality", [pytest.param(name, marks=needs_names("modality", name)) for name in MEASURED])
def test_measurements_are_seen_upright(modality: str, orientation: int, tmp_path: Path) -> None:
    path, shown = lying(tmp_path / "a.png", COUNTS, orientation)
    built = build(modality)
    expected = frames(built, shown)
    assert torch.equal(frames(built, path), expected)
    assert torch.equal(frames(built, Image.open(path)), expected)


@needs_names("modality", "depth")
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_experts_look_at_upright_pictures(orientation: int, tmp_path: Path) -> None:
    from crema_geometry.extract.frames import read_pairs

    folder = tmp_path / "pictures"
    folder.mkdir()
    shown = [lying(folder / f"{n}.jpg", np.roll(NOISE, n, axis=0), orientation)[1] for n in range(3)]
    for source, count in ((folder, 3), (folder / "0.jpg", 1)):
        read = read_pairs(source, num_frames=3, fps=None, gap_s=None, max_side=512).frames
        assert np.array_equal(read.permute(0, 2, 3, 1), np.stack(shown[:count]))


@pytest.mark.parametrize("modality", [pytest.param(name, marks=needs_names("modality", name)) for name in PICTURES])
def test_a_jpeg_of_a_phone_with_further_pictures_inside_is_one_picture(modality: str, tmp_path: Path) -> None:
    plain, several = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.fromarray(NOISE).save(plain, quality=95)
    Image.fromarray(NOISE).save(
        several, format="MPO", save_all=True, append_images=[Image.fromarray(255 - NOISE)], quality=95
    )
    built = build(modality)
    with Image.open(several) as picture:
        first = np.array(picture.convert("RGB"))
    assert torch.equal(frames(built, several), frames(built, [first] if modality == "exo_views" else first))
