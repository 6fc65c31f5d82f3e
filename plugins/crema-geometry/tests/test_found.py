"""What maps are found to be: float maps, channels of renderers, layouts of arrays, and numbers in another unit."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.data.doubts import collect_doubts
from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Modality
from crema_geometry.exr import read_exr_depth, read_exr_normals
from crema_geometry.files import read_pfm
from crema_geometry.modality import DepthModality, FlowModality, NormalsModality
from crema_geometry.plugin import DEPTH, FLOW, NORMALS

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
METRES = np.random.default_rng(0).uniform(1, 5, (9, 12)).astype(np.float32)
FIELD = np.random.default_rng(1).normal(size=(9, 12, 2)).astype(np.float32)
SIDES = np.random.default_rng(2).normal(size=(9, 12, 3)).astype(np.float32)


def build(name: str, **options: object) -> Modality:
    spec, kind = {"depth": (DEPTH, DepthModality), "flow": (FLOW, FlowModality), "normals": (NORMALS, NormalsModality)}[
        name
    ]
    return kind(spec.parse_options(dict(options)), PLAIN)


def frames(name: str, source: object, **options: object) -> torch.Tensor:
    return build(name, **options).prepare(source).tensors["frames"]


def write_pfm(path: Path, values: np.ndarray, *, order: str = "<", comment: str = "") -> Path:
    kind = "PF" if values.ndim == 3 else "Pf"
    scale = -1.0 if order == "<" else 1.0
    header = f"{kind}\n{comment}{values.shape[1]} {values.shape[0]}\n{scale}\n"
    path.write_bytes(header.encode() + values[::-1].astype(f"{order}f4").tobytes())
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("comment", ["", "# from a stereo pair\n"])
def test_a_float_map_is_read_from_the_top(tmp_path: Path, order: str, comment: str) -> None:
    path = write_pfm(tmp_path / "a.pfm", METRES, order=order, comment=comment)
    assert np.array_equal(read_pfm(path), METRES)
    assert torch.equal(frames("depth", path), frames("depth", METRES))
    if not comment:
        with Image.open(path) as picture:  # Pillow's own reader of grey maps
            assert np.array_equal(np.array(picture), METRES)


def test_float_maps_of_three_numbers_are_flow_or_normals(tmp_path: Path) -> None:
    three = np.concatenate([FIELD, np.zeros((9, 12, 1), np.float32)], axis=-1)
    assert torch.equal(frames("flow", write_pfm(tmp_path / "a.pfm", three)), frames("flow", FIELD))
    assert torch.equal(frames("normals", write_pfm(tmp_path / "b.pfm", SIDES)), frames("normals", SIDES))
    with pytest.raises(MediaError, match=r"has one number per pixel. A flow field has pixels right and pixels down"):
        frames("flow", write_pfm(tmp_path / "c.pfm", METRES))


def test_a_float_map_cut_short_or_of_another_type_is_named(tmp_path: Path) -> None:
    path = write_pfm(tmp_path / "a.pfm", METRES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MediaError) as caught:
        frames("depth", path)
    assert str(caught.value) == (
        f"'{path}' cannot be read: it is cut short, it announces 9 x 12 numbers and holds 98. A PFM map is read from "
        ".pfm. Write or download the file again."
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(MediaError, match=r"cannot be read: it holds a PNG picture. A PFM map is read from"):
        frames("depth", path)


@pytest.mark.parametrize(
    ("name", "values", "layouts"),
    [
        ("depth", METRES, [METRES[..., None], METRES[None], METRES[None, None], METRES[None, ..., None]]),
        ("flow", FIELD, [FIELD.transpose(2, 0, 1), FIELD[None], FIELD[None].transpose(0, 3, 1, 2)]),
        ("normals", SIDES, [SIDES.transpose(2, 0, 1), SIDES[None], SIDES[None].transpose(0, 3, 1, 2)]),
    ],
)
def test_every_usual_layout_is_the_same_map(
    tmp_path: Path, name: str, values: np.ndarray, layouts: list[np.ndarray]
) -> None:
    expected = frames(name, values)
    assert len(expected) == 1
    for number, own in enumerate(layouts):
        assert torch.equal(frames(name, own), expected)
        assert torch.equal(frames(name, torch.from_numpy(own.copy())), expected)
        np.savez(tmp_path / f"{number}.npz", **{name: own})
        assert torch.equal(frames(name, tmp_path / f"{number}.npz"), expected)


class StandIn:
    """What the OpenEXR library gives, as far as it is used."""

    channels_of: ClassVar[dict[str, np.ndarray]] = {}

    def __init__(self, path: str, separate_channels: bool) -> None:
        assert separate_channels

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def channels(self) -> dict[str, Any]:
        return {name: SimpleNamespace(pixels=pixels) for name, pixels in self.channels_of.items()}


@pytest.fixture
def exr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "OpenEXR", SimpleNamespace(File=StandIn))
    (tmp_path / "a.exr").write_bytes(b"v/1\x01")
    return tmp_path / "a.exr"


@pytest.mark.parametrize(
    "channel", ["ViewLayer.Depth.Z", "View Layer.Depth.V", "RenderLayer.Depth.Z", "Depth.V", "scene.Z", "depth.Y"]
)
def test_the_depth_channel_of_a_renderer_is_found(exr: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = {f"ViewLayer.Combined.{name}": np.zeros((2, 3)) for name in "RGBA"}
    monkeypatch.setattr(StandIn, "channels_of", {**colours, channel: np.full((2, 3), 4.5)})
    assert read_exr_depth(exr).tolist() == [[4.5] * 3] * 2


def test_the_normals_of_a_renderer_are_found(exr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {f"ViewLayer.{layer}.{axis}": np.full((2, 3), n) for layer in ("Combined", "Normal")
              for n, axis in enumerate("XYZ" if layer == "Normal" else "RGB")}  # fmt: skip
    monkeypatch.setattr(StandIn, "channels_of", layers)
    assert read_exr_normals(exr)[0, 0].tolist() == [0.0, 1.0, 2.0]


def test_the_real_library_reads_what_it_wrote(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenEXR")
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    channels = {"ViewLayer.Depth.Z": METRES, "ViewLayer.Combined.R": METRES * 0}
    library.File(header, channels).write(str(tmp_path / "a.exr"))
    assert np.array_equal(read_exr_depth(tmp_path / "a.exr"), METRES)
    raw = (tmp_path / "a.exr").read_bytes()
    (tmp_path / "b.exr").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match=r"cannot be read: it is (damaged|cut short) \(OpenEXR: "):
        read_exr_depth(tmp_path / "b.exr")


def doubted(name: str, source: object, **options: object) -> list[str]:
    with collect_doubts() as doubts:
        frames(name, source, **options)
    return [own.text for own in doubts]


def test_usual_maps_are_not_doubted() -> None:
    assert doubted("depth", METRES) == []
    assert doubted("depth", (METRES * 1000).astype(np.uint16)) == []
    assert doubted("normals", SIDES) == []
    assert doubted("normals", (SIDES * 40 + 128).clip(0, 255).astype(np.uint8)) == []


def test_the_largest_count_is_doubted_and_an_option_makes_it_unknown() -> None:
    counts = (METRES * 1000).astype(np.uint16)
    counts[0] = 65535
    (text,) = doubted("depth", counts)
    assert text == (
        "The array has pixels of 65535, read as 65.5 m. 0 is unknown, and many writers mark it with the largest "
        "number. Set unknown_value=65535."
    )
    assert doubted("depth", counts, unknown_value=65535) == []
    zeros = np.where(counts == 65535, 0, counts).astype(np.uint16)
    assert torch.equal(frames("depth", counts, unknown_value=65535), frames("depth", zeros))


def test_millimetres_labelled_metres_are_doubted_and_an_option_scales_them() -> None:
    (text,) = doubted("depth", METRES * 1000)
    assert text.startswith("The array has 100 % of its known pixels beyond far_m=10 m, in the middle ")
    assert "Set metres_per_unit (0.001 for millimetres) for another unit" in text
    assert doubted("depth", METRES * 1000, metres_per_unit=0.001) == []
    torch.testing.assert_close(frames("depth", METRES * 1000, metres_per_unit=0.001), frames("depth", METRES))


def test_disparities_and_relative_depth_are_doubted() -> None:
    (text,) = doubted("depth", 700 * 0.12 / METRES)  # pixels of a camera pair
    assert "disparities are none" in text
    assert doubted("depth", 700 * 0.12 / METRES, window="per_clip") == []
    relative = (METRES - METRES.min()) / (METRES.max() - METRES.min())
    assert "as relative depth has. Distances are metres." in doubted("depth", relative)[0]
    (text,) = doubted("depth", METRES / 100)
    assert "nearer than near_m=0.5 m" in text


def test_normals_that_are_colours_in_floats_are_doubted() -> None:
    unit = SIDES / np.linalg.norm(SIDES, axis=-1, keepdims=True)
    (text,) = doubted("normals", (unit + 1) / 2)
    assert text.endswith("Floats are directions in -1..1, uint8 numbers their colours. Pass 2 * values - 1.")
    torch.testing.assert_close(frames("normals", 2 * ((unit + 1) / 2) - 1), frames("normals", unit), atol=1e-5, rtol=0)


def test_a_file_is_named_in_a_doubt(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", METRES * 1000)
    assert doubted("depth", tmp_path / "a.npy")[0].startswith(f"'{tmp_path / 'a.npy'}' has 100 %")
    assert doubted("depth", [tmp_path / "a.npy"])[0].startswith(f"'{tmp_path / 'a.npy'}' has 100 %")
