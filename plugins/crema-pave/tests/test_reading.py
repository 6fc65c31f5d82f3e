"""Which side tokens a patch reads, computed a second time: the weights of its attention, and no number changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import FusionWatch
from crema_pave.layer import FrameAttention, plan_keys
from crema_pave.patch import PavePatch
from crema_pave.reading import LayerReading, over_steps
from crema_pave.rotary import Rotary
from tests.support.modalities import points_spec, wave_spec
from tests.support.pave_models import randomized, side_example
from tests.support.vlm import save_vlm


def patch(*, num_layers: int = 2, rotary: Rotary = "none") -> PavePatch:
    torch.manual_seed(0)
    made = PavePatch(6, query_dim=10, output_dim=12, embed_dim=16, num_heads=2, num_layers=num_layers, rotary=rotary)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def test_weights_are_the_softmax_of_queries_and_keys_inside_a_frames_group() -> None:
    torch.manual_seed(1)
    attention = FrameAttention(8, side_dim=5, num_heads=2)
    hidden, side = torch.randn(1, 2, 3, 8), torch.randn(1, 3, 4, 5)
    groups = torch.tensor([[[True, True, False], [False, False, True]]])
    plan = plan_keys(groups, torch.ones(1, 3, 4, dtype=torch.bool))
    found = attention.weights(hidden, side=side, plan=plan)
    assert found.shape == (1, 2, 3, 2, 4)
    expected = torch.zeros(2, 3, 3, 4)  # frames, tokens, steps, tokens of a step
    for frame, steps in enumerate(([0, 1], [2])):
        for token in range(3):
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                query = attention.query(hidden[0, frame, token])[part]
                keys = attention.key(side[0, steps]).flatten(0, 1)[:, part]
                expected[frame, token, steps] += ((keys @ query) / 2).softmax(0).view(len(steps), 4) / 2  # type: ignore[operator]
    read = over_steps(found, groups)
    torch.testing.assert_close(read.by_place[0], expected.mean(1).detach())
    torch.testing.assert_close(read.by_token[0], expected.sum(-1).detach())


@pytest.mark.parametrize("rotary", ["none", "time", "space_time"])
def test_a_patch_that_is_looked_at_computes_the_same_with_weights_that_sum_to_one(rotary: Rotary) -> None:
    made = patch(rotary=rotary)
    queries, side = torch.randn(2, 3, 4, 10), torch.randn(2, 7, 4, 6)
    frame_mask = torch.tensor([[True, True, True], [True, True, False]])
    side_mask = torch.ones(2, 7, 4, dtype=torch.bool)
    side_mask[0, 5:] = False
    side_mask[1, :, 3] = False
    reads: list[LayerReading] = []
    with torch.no_grad():
        plain = made(queries, side=side, frame_mask=frame_mask, side_mask=side_mask)
        watched = made(queries, side=side, frame_mask=frame_mask, side_mask=side_mask, reads=reads)
    assert torch.equal(plain, watched)
    assert len(reads) == 2
    for own in reads:
        assert (own.by_place.shape, own.by_token.shape) == ((2, 3, 7, 4), (2, 3, 4, 7))
        torch.testing.assert_close(own.by_place.sum((-1, -2)), frame_mask.float())
        torch.testing.assert_close(own.by_token.sum(-1), frame_mask.float()[..., None].expand(2, 3, 4))
        assert not bool(own.by_place[~side_mask[:, None].expand(2, 3, 7, 4)].any())
    # Seven steps on three frames, five of them real: two, two and one by count.
    assert (reads[0].by_token[0, :, 0] > 0).tolist() == [
        [True, True, False, False, False, False, False],
        [False, False, True, True, False, False, False],
        [False, False, False, False, True, False, False],
    ]


def test_the_weights_reproduce_the_attention() -> None:
    torch.manual_seed(2)
    attention = FrameAttention(8, side_dim=8, num_heads=1)
    hidden, side = torch.randn(1, 2, 3, 8), torch.randn(1, 4, 2, 8)
    groups = torch.tensor([[[True, True, True, False], [False, False, False, True]]])
    plan = plan_keys(groups, torch.ones(1, 4, 2, dtype=torch.bool))
    weights = attention.weights(hidden, side=side, plan=plan)
    assert attention.value is not None
    values = attention.value(side)[0]  # (T, N, D)
    steps = [[0, 1, 2], [3, 0, 0]]  # padded steps have weight 0
    by_hand = torch.stack([torch.einsum("sgn,gnd->sd", weights[0, f], values[steps[f]]) for f in range(2)])
    torch.testing.assert_close(attention(hidden, side=side, plan=plan)[0], by_hand)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CremaModel:
    folder: Path = save_vlm(tmp_path_factory.mktemp("video"), "llava_onevision")
    fusion = {"name": "pave", "embed_dim": 16, "num_heads": 2}
    modalities = [{"name": "video", "num_frames": 2}, wave_spec(), points_spec()]
    return randomized(build(modalities, backbone=folder, fusion=fusion))


@torch.no_grad()
def test_a_watched_fusion_tells_what_its_patches_read_and_add(model: CremaModel) -> None:
    clip = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    samples: list[dict[str, Tensor]] = [
        {"video": clip, "wave": side_example("wave", 0)},
        {"video": clip.flip(0), "wave": side_example("wave", 1), "points": side_example("points", 1)},
    ]
    tokens = model.tokens(model.encode(prepare_batch(model, samples)), ["?"] * 2)
    plain = model.prompt(tokens, ["?"] * 2)
    watch = FusionWatch()
    watched = model.prompt(tokens, ["?"] * 2, watch=watch)
    assert torch.equal(plain.embeds, watched.embeds)
    assert set(watch.reads) == {"wave", "points"}
    (wave,), (points,) = watch.reads["wave"], watch.reads["points"]
    assert (wave.rows.tolist(), points.rows.tolist()) == ([0, 1], [1])
    num_tokens = wave.added.shape[-1]
    assert wave.by_token.shape[:4] == (2, 2, 2, num_tokens)
    torch.testing.assert_close(wave.by_token.sum(-1), torch.ones(2, 2, 2, num_tokens))
    torch.testing.assert_close(points.by_place.sum((-1, -2)), torch.ones(1, 2, 2))
    only_wave = model.prompt({name: tokens[name] for name in ("video", "wave")}, ["?"] * 2)
    added = (watched.embeds - only_wave.embeds)[1].norm(dim=-1)  # what points add, at the clip's own tokens
    torch.testing.assert_close(
        added[added > 0].sort().values, points.added.flatten().sort().values, atol=1e-4, rtol=1e-4
    )
