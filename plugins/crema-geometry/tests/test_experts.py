"""Frozen experts: every family loads in its real format and speaks our units and axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_core.errors import AssetError, OptionsError
from crema_geometry.experts.depth import FAR_M, NEAR_M, DepthExpert, place_relative
from crema_geometry.experts.flow import FlowExpert
from crema_geometry.experts.normals import NormalsExpert, horizontal_fov_deg, normals_from_depth, parse_axes
from tests.support import experts

FAMILIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zoedepth": (experts.save_zoedepth, "metric"),
    "depth_anything": (experts.save_depth_anything, "relative"),
    "depth_pro": (experts.save_depth_pro, "metric"),
    "glpn": (experts.save_glpn, "metric"),
    "tips": (experts.save_tips, "metric"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("experts")
    return {name: save(place / name) for name, (save, _) in FAMILIES.items()}


def noise(count: int = 3, height: int = 60, width: int = 80) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_depth_model_gives_a_map_as_large_as_the_frame(folders: dict[str, Path], family: str) -> None:
    expert = DepthExpert(str(folders[family]))
    maps = expert(noise(), batch_size=2)
    assert expert.kind == FAMILIES[family][1]
    assert maps.metres.shape == (3, 60, 80)
    assert bool(torch.isfinite(maps.metres).all())
    assert bool((maps.metres >= 0).all())
    assert (maps.fov_deg is not None) == (family == "depth_pro")
    assert not [parameter for parameter in expert.model.parameters() if parameter.requires_grad]


def test_the_kind_of_depth_anything_is_what_its_configuration_says(tmp_path: Path) -> None:
    assert DepthExpert(str(experts.save_depth_anything(tmp_path / "metric", metric=True))).kind == "metric"


def test_a_depth_model_of_unknown_kind_asks(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crema_geometry.experts.depth.METRIC", frozenset({"depth_pro", "zoedepth"}))
    with pytest.raises(AssetError) as caught:
        DepthExpert(str(folders["glpn"]))
    assert str(caught.value) == (
        f"It is not known whether '{folders['glpn']}' ('glpn') gives metres or inverse depth. Known: depth_anything, "
        "depth_pro, dpt, zoedepth. Pass --depth-kind metric or --depth-kind relative."
    )
    assert DepthExpert(str(folders["glpn"]), kind="metric").kind == "metric"


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=50))
def test_relative_depth_keeps_the_order_inside_the_window(inverse: list[float]) -> None:
    metres = place_relative(torch.tensor(inverse)[None, None])[0, 0]
    order = torch.tensor(inverse).argsort()
    assert bool((metres[order].diff() <= 1e-5).all())
    assert float(metres.min()) >= NEAR_M - 1e-5
    assert float(metres.max()) <= FAR_M + 1e-4


def test_another_kind_of_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path / "d")
    with pytest.raises(AssetError) as caught:
        DepthExpert(str(tmp_path / "d"))
    assert str(caught.value).startswith(f"The weights of '{tmp_path / 'd'}' cannot be read: Unrecognized configuration")


def test_an_expert_without_its_preprocessing_is_refused(tmp_path: Path) -> None:
    folder = experts.save_glpn(tmp_path / "glpn")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(AssetError) as caught:
        DepthExpert(str(folder))
    assert str(caught.value) == (
        f"'{folder}' has weights but no preprocessor_config.json. An expert needs the preprocessing it was trained "
        "with. Download that file into the folder too."
    )


def test_a_normals_model_gives_unit_vectors(folders: dict[str, Path]) -> None:
    normals = NormalsExpert(str(folders["tips"]))(noise(), batch_size=2)
    assert normals.shape == (3, 60, 80, 3)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(3, 60, 80), atol=1e-4, rtol=0)
    turned = NormalsExpert(str(folders["tips"]), axes="x,-y,-z")(noise(), batch_size=2)
    torch.testing.assert_close(turned, normals * torch.tensor([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("text", ["x,y", "x,y,y", "x,y,+z", "a,b,c", ""])
def test_axes_that_name_no_directions_are_refused(text: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse_axes(text)
    assert str(caught.value) == (
        f"axes='{text}' does not say what is right, up and to the viewer. Accepted: x, y and z once each, with a minus "
        "where the model's axis points the other way. Write x,y,z or x,-y,-z."
    )


@settings(deadline=None, max_examples=40)
@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(30, 110))
def test_normals_of_a_plane_are_exact(right: float, up: float, fov_deg: float) -> None:
    """Rays against the plane n . p = -3 (in right, up, to the viewer)."""
    normal = torch.nn.functional.normalize(torch.tensor([right, up, 1.0]), dim=0)
    height, width = 12, 16
    focal = width / 2 / torch.tan(torch.deg2rad(torch.tensor(fov_deg / 2)))
    rays = torch.stack(
        [
            ((torch.arange(width) - 7.5) / focal).expand(height, -1),
            (-(torch.arange(height) - 5.5) / focal)[:, None].expand(-1, width),
            -torch.ones(height, width),
        ],
        dim=-1,
    )
    depth = -3 / (rays @ normal)
    found = normals_from_depth(torch.where(depth > 0, depth, 0.0)[None], fov_deg=fov_deg)[0]
    sure = found.norm(dim=-1) > 0.5
    torch.testing.assert_close(found[sure], normal.expand_as(found)[sure], atol=2e-4, rtol=0)


def test_normals_beside_unknown_depth_are_unknown() -> None:
    depth = torch.full((1, 6, 6), 2.0)
    depth[0, 2, 3] = 0.0
    unknown = normals_from_depth(depth, fov_deg=60.0)[0].norm(dim=-1) < 0.5
    assert unknown.nonzero().tolist() == [[1, 3], [2, 2], [2, 3], [2, 4], [3, 3]]


def test_a_field_of_view_follows_from_the_focal_length() -> None:
    assert horizontal_fov_deg(320.0, 640) == pytest.approx(90.0)


@pytest.mark.parametrize("size", [(60, 80), (130, 171), (128, 136)])
def test_flow_is_as_large_as_the_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    expert = FlowExpert("raft_small", weights=str(experts.save_raft(tmp_path / "raft.pth")))
    flow = expert(noise(2, *size), noise(2, *size), batch_size=1)
    assert flow.shape == (2, *size, 2)
    assert bool(torch.isfinite(flow).all())


def test_padding_and_enlarging_scale_vectors_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that says: everything moves by a tenth of the picture it is shown."""
    expert = FlowExpert("raft_small", weights=str(experts.save_raft(tmp_path / "raft.pth")))

    def tenth(first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        height, width = first.shape[-2:]
        return [torch.tensor([width / 10, height / 10]).view(1, 2, 1, 1).expand(len(first), 2, height, width)]

    monkeypatch.setattr(expert, "model", tenth)
    flow = expert(noise(1, 64, 80), noise(1, 64, 80))
    torch.testing.assert_close(flow[0, 3, 3], torch.tensor([8.0, 6.4]))


def test_raft_equals_torchvisions_own_preprocessing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expert = FlowExpert("raft_small", weights=str(experts.save_raft(tmp_path / "raft.pth")))
    first, second = noise(1, 128, 136), noise(1, 128, 136).flip(-1)
    transform = torchvision.models.optical_flow.Raft_Small_Weights.DEFAULT.transforms()
    with torch.no_grad():
        expected = expert.model(*transform(first, second))[-1]
    torch.testing.assert_close(expert(first, second), expected.permute(0, 2, 3, 1))


def test_weights_of_the_other_size_are_refused(tmp_path: Path) -> None:
    file = experts.save_raft(tmp_path / "raft.pth")
    with pytest.raises(AssetError) as caught:
        FlowExpert("raft_large", weights=str(file))
    text = str(caught.value)
    assert text.startswith(f"'{file}' does not hold the weights of raft_large: ")
    assert text.endswith(
        "Accepted: torchvision's file for this model. Pass --flow-model raft_small or raft_large to match it."
    )


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "raft.pth"
    file.write_bytes(b"not weights")
    with pytest.raises(AssetError) as caught:
        FlowExpert("raft_small", weights=str(file))
    text = str(caught.value)
    assert text.startswith(f"'{file}' cannot be read as weights: ")
    assert text.endswith(
        "Accepted: a file of torchvision's RAFT, .pth or .safetensors. Download it again and pass its path."
    )
