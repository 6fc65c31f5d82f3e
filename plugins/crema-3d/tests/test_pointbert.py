"""The learned point encoder: released format, groups, tokens; the reference is put together from timm's blocks."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.models.vision_transformer import Block
from torch import Tensor, nn

import crema_core
from crema_3d.encoding import fourier
from crema_3d.groups import GREY, farthest_points, group_points, nearest_points
from crema_3d.modality import PointCloudModality
from crema_3d.plugin import PLACE_DIM, SPEC
from crema_3d.weights import ACCEPTED, TRY, find_weights, load_point_bert
from crema_core.errors import AssetError
from crema_core.modality import BuildContext, Features
from crema_core.model.revisions import pinned, recording
from tests.support.hub import COMMIT, advance, downloaded, hub
from tests.support.numeric import assert_close_to_scale

__all__ = ["hub"]

WIDTH, INNER, DEPTH = 128, 24, 2
EXAMPLE = f"Pass for example '{TRY}'."


class Reference(nn.Module):
    """Point-BERT from parts of torch and timm, with a loop over groups."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.encoder = nn.Module()
        for name, sizes in (("first_conv", (num_channels, 128, 256)), ("second_conv", (512, 512, INNER))):
            parts = (nn.Conv1d(*sizes[:2], 1), nn.BatchNorm1d(sizes[1]), nn.ReLU(), nn.Conv1d(*sizes[1:], 1))
            self.encoder.add_module(name, nn.Sequential(*parts))
        self.reduce_dim = nn.Linear(INNER, WIDTH)
        self.cls_token, self.cls_pos = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Sequential(nn.Linear(3, 16), nn.GELU(), nn.Linear(16, WIDTH))
        self.blocks = nn.Module()
        layers = [Block(WIDTH, 2, qkv_bias=False, norm_layer=nn.LayerNorm) for _ in range(DEPTH)]
        self.blocks.add_module("blocks", nn.ModuleList(layers))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, points_GKC: Tensor, centers_G3: Tensor) -> Tensor:
        rows = []
        for group in points_GKC:
            own = self.encoder.first_conv(group.T[None])[0]  # (256, K)
            both = torch.cat([own.max(dim=1).values[:, None].repeat(1, len(group)), own])
            rows.append(self.encoder.second_conv(both[None])[0].max(dim=1).values)
        tokens = torch.cat([self.cls_token[0], self.reduce_dim(torch.stack(rows))])[None]
        positions = torch.cat([self.cls_pos[0], self.pos_embed(centers_G3)])[None]
        for block in self.blocks.blocks:
            tokens = block(tokens + positions)
        return self.norm(tokens)[0]


def reference(num_channels: int = 6) -> Reference:
    torch.manual_seed(0)
    model = Reference(num_channels).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean = torch.randn(part.num_features)
            part.running_var = 0.5 + torch.rand(part.num_features)
    return model


def save(path: Path, num_channels: int = 6) -> Path:
    """As released: the whole ULIP, wrapped for many devices, with the arguments of its training."""
    state = {f"module.point_encoder.{key}": value for key, value in reference(num_channels).state_dict().items()}
    state |= {"module.logit_scale": torch.ones(()), "module.pc_projection": torch.zeros(2 * WIDTH, 8)}
    torch.save({"epoch": 3, "state_dict": state, "args": Namespace(model="ULIP2_PointBERT_Colored")}, path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("ulip") / "ULIP-2.pt")


def cloud(count: int, *, seed: int = 0, colors: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = {"points": 3 * torch.randn(count, 3, generator=generator)}
    return points | ({"colors": torch.rand(count, 3, generator=generator)} if colors else {})


def built(weights: object, **options: Any) -> PointCloudModality:
    values = {"encoder": "pointbert", "num_groups": 6, "group_size": 4, "weights": str(weights), **options}
    modality = PointCloudModality(SPEC.parse_options(values), BuildContext())
    modality.load_assets(None)
    return modality


def encoded(modality: PointCloudModality, *sources: object) -> Features:
    with torch.no_grad():
        return modality.encode(modality.collate([modality.prepare(source) for source in sources]))


@pytest.mark.parametrize("num_channels", [3, 6])
def test_tokens_are_those_of_the_reference(tmp_path: Path, num_channels: int) -> None:
    modality, source = built(save(tmp_path / "ulip.pt", num_channels)), cloud(40)
    values, mask = encoded(modality, source)[:2]
    groups = group_points(source["points"], source["colors"], num_groups=6, group_size=4)
    with torch.no_grad():
        expected = reference(num_channels)(groups.points[..., :num_channels], groups.centers)
    assert values.shape == (1, 1, 7, WIDTH + PLACE_DIM)
    assert modality.feature_dim == WIDTH + PLACE_DIM
    assert bool(mask.all())
    assert_close_to_scale(values[0, 0, :, :WIDTH], expected)


def test_a_token_ends_with_where_its_group_is_from_the_viewer(file: Path) -> None:
    source = cloud(40)
    behind = {**source, "points": source["points"] + torch.tensor([0.0, 0.0, 9.0])}
    here, there = (encoded(built(file), each).values[0, 0] for each in (source, behind))
    torch.testing.assert_close(here[:, :WIDTH], there[:, :WIDTH], atol=1e-4, rtol=0)
    places = group_points(source["points"], None, num_groups=6, group_size=4).places
    torch.testing.assert_close(here[1:, WIDTH:], fourier(places / 4.0))
    assert not bool(torch.allclose(here[1:, WIDTH:], there[1:, WIDTH:]))
    assert bool((here[0, WIDTH:] == 0).all())


def test_groups_that_pad_a_batch_change_nothing(file: Path) -> None:
    modality = built(file)
    both = encoded(modality, cloud(3, seed=1), cloud(40))
    alone = encoded(modality, cloud(3, seed=1))
    assert both.mask[0, 0].tolist() == [True] * 4 + [False] * 3
    assert alone.values.shape == (1, 1, 4, WIDTH + PLACE_DIM)
    assert_close_to_scale(both.values[:1, :, :4], alone.values)
    assert bool((both.values[0, 0, 4:] == 0).all())


def test_points_without_colour_are_grey(file: Path) -> None:
    bare = cloud(40, colors=False)
    grey = {**bare, "colors": torch.full((40, 3), GREY)}
    assert torch.equal(encoded(built(file), bare).values, encoded(built(file), grey).values)


def test_the_first_point_is_chosen_then_always_the_farthest() -> None:
    line = torch.tensor([[0.0], [1.0], [10.0], [4.0]]) * torch.tensor([1.0, 0.0, 0.0])
    assert farthest_points(line, 4).tolist() == [0, 2, 3, 1]
    assert nearest_points(line[[2]], line, 3).tolist() == [[2, 3, 1]]


def test_groups_are_relative_to_their_centres_in_a_cloud_of_radius_one() -> None:
    line = torch.tensor([[2.0], [4.0], [6.0]]) * torch.tensor([1.0, 0.0, 0.0])
    groups = group_points(line, None, num_groups=5, group_size=2)
    assert groups.centers[:, 0].tolist() == [-1.0, 1.0, 0.0]
    assert groups.places[:, 0].tolist() == [2.0, 6.0, 4.0]
    assert groups.points[:2, :, 0].tolist() == [[0.0, 1.0], [0.0, -1.0]]
    assert bool((groups.points[..., 3:] == GREY).all())


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 99))
def test_no_point_leads_two_groups_and_every_group_is_full(count: int, num_groups: int, seed: int) -> None:
    groups = group_points(cloud(count, seed=seed)["points"], None, num_groups=num_groups, group_size=5)
    assert groups.points.shape == (min(count, num_groups), 5, 6)
    assert len(groups.places.unique(dim=0)) == len(groups.places)
    assert float(groups.centers.norm(dim=1).max()) <= 1 + 1e-5


def test_the_encoder_alone_is_read_too_and_from_its_folder(file: Path, tmp_path: Path) -> None:
    save_file(reference().state_dict(), tmp_path / "encoder.safetensors")
    for place in (tmp_path, tmp_path / "encoder.safetensors"):
        own, whole = load_point_bert(str(place)).state_dict(), load_point_bert(str(file)).state_dict()
        assert all(torch.equal(own[key], whole[key]) for key in whole)
    assert not [parameter for parameter in load_point_bert(str(file)).parameters() if parameter.requires_grad]


def test_a_model_answers_with_it(file: Path) -> None:
    asked = {"name": "pointcloud", "encoder": "pointbert", "weights": str(file), "num_groups": 6, "group_size": 4}
    model = crema_core.build(modalities=["video", asked], backbone="crema-tiny")
    answer = model.answer("what is behind you?", pointcloud=cloud(40))
    assert answer.used == ("pointcloud",)


def refusal(weights: str | None) -> str:
    with pytest.raises(AssetError) as caught:
        load_point_bert(weights)
    return str(caught.value)


def test_without_weights_it_says_what_to_pass() -> None:
    assert refusal(None) == (
        f"encoder='pointbert' was chosen without weights. It needs a checkpoint of ULIP: {ACCEPTED}. Pass {{'name': "
        f"'pointcloud', 'encoder': 'pointbert', 'weights': '{TRY}'}}."
    )


def test_a_folder_with_several_files_is_refused(file: Path, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pth"):
        (tmp_path / name).write_bytes(file.read_bytes())
    assert refusal(str(tmp_path)) == (
        f"The folder '{tmp_path}' holds 2 files of weights. One is needed (.pt, .pth, .safetensors). Name the file "
        "itself."
    )


def test_a_place_on_the_hub_that_cannot_be_reached_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def refuse(*places: str, **arguments: object) -> None:
        asked.append((*places, arguments["repo_type"], arguments["revision"]))
        raise OSError("The hub is not there.\nTry later.")

    monkeypatch.setattr("crema_3d.weights.cached_file", refuse)
    assert refusal(TRY) == (
        f"No weights were found at '{TRY}': The hub is not there. Accepted: {ACCEPTED}. Check the name, or download "
        "the file and name it."
    )
    refusal("owner/name/folder/file.pt")
    rest = "ULIP-2/models/ULIP-2-PointBERT-10k-colored-pc-pretrained.pt"
    assert asked == [("SFXX/ulip", rest, "dataset", None), ("owner/name", "folder/file.pt", "model", None)]


@pytest.mark.parametrize("place", ["datasets/some/weights", "some/weights"])
def test_a_file_on_the_hub_comes_from_the_recorded_commit(place: str, hub: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "encoder.pt").write_bytes(b"then")
    downloaded(hub, place, tmp_path / "folder", revision="main")
    with recording() as found:
        first = find_weights(f"{place}/encoder.pt")
    assert found == {place: {"main": COMMIT}}
    later = advance(hub, place)
    later.unlink()
    later.mkdir()
    (later / "encoder.pt").write_bytes(b"now")
    with pinned(found):
        assert find_weights(f"{place}/encoder.pt") == first
    assert first.read_bytes() == b"then"
    assert find_weights(f"{place}/encoder.pt").read_bytes() == b"now"


def test_a_file_that_is_absent_or_damaged_is_refused(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pt"
    cut.write_bytes(file.read_bytes()[:1000])
    for path in (cut, tmp_path / "none.pt"):
        text = refusal(str(path))
        assert text.startswith(f"'{path}' cannot be read as weights: ")
        assert text.endswith(f". Accepted: {ACCEPTED}. Download it again and pass its path.")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    assert refusal(str(tmp_path / "other.pt")) == (
        f"'{tmp_path / 'other.pt'}' does not hold the weights of a Point-BERT, 1 differ:\n  missing: 'cls_token'\n"
        f"Accepted: a checkpoint of ULIP or ULIP-2 with Point-BERT as its point encoder. {EXAMPLE}"
    )


def test_weights_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    state = reference().state_dict()
    del state["norm.bias"]
    state["norm.weight"] = torch.ones(3)
    save_file(state, tmp_path / "encoder.safetensors")
    assert refusal(str(tmp_path)) == (
        f"'{tmp_path / 'encoder.safetensors'}' does not hold the weights of a Point-BERT, 2 differ:\n"
        "  missing: norm.bias\n  shape: norm.weight is (3,), the model's is (128,)\n"
        f"Accepted: a checkpoint of ULIP or ULIP-2 with Point-BERT as its point encoder. {EXAMPLE}"
    )
