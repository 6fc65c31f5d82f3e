"""The patch: zero at first, one answer per sample whatever the batch, padding never read, settings that do not fit."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crema_core.errors import OptionsError
from crema_pave import patch as module
from crema_pave.patch import PavePatch
from tests.support.pave import random_patch

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "shared value, by count": {"shared_value": True, "alignment": "count"},
    "rotary of time": {"rotary": "time"},
    "rotary of space": {"rotary": "space_time", "num_layers": 1},
    "released rotary": {"rotary": "released_3d", "alignment": "count"},
    "learnable": {"queries": "learnable", "num_frames": 4, "tokens_per_frame": 4},
    "convolutions": {"side_map": "conv", "conv_stages": [(8, 8, 1, 1), (12, 8, 2, 2)], "rotary": "space_time"},
}
TOKENS, SIDE_TOKENS = 4, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def sample(data: st.DataObject, seed: int) -> dict[str, Tensor]:
    """One sample without padding: random lengths, tokens, holes in the last step's tokens, and maybe a clock."""
    frames, steps = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 6))
    generator = torch.Generator().manual_seed(seed)
    clock = data.draw(st.booleans())
    token_mask = torch.rand(1, steps, SIDE_TOKENS, generator=generator) < 0.8
    token_mask[:, :, 0] = True
    edges = [
        torch.linspace(0, 4, count + 1) if clock else torch.full((count + 1,), torch.nan) for count in (frames, steps)
    ]
    times = [torch.stack([own[:-1], own[1:]], dim=1)[None] for own in edges]
    return {
        "queries": torch.randn(1, frames, TOKENS, 5, generator=generator),
        "side": torch.randn(1, steps, SIDE_TOKENS, 6, generator=generator),
        "frame_mask": torch.ones(1, frames, dtype=torch.bool),
        "side_mask": token_mask,
        "frame_times": times[0],
        "side_times": times[1],
    }


def padded(samples: list[dict[str, Tensor]], *, filler: float) -> dict[str, Tensor]:
    """A batch of samples; `filler` stands wherever nothing is."""
    batch = {}
    for name in samples[0]:
        length = max(one[name].shape[1] for one in samples) + 1
        shape = (len(samples), length, *samples[0][name].shape[2:])
        boolean = samples[0][name].dtype == torch.bool
        whole = torch.zeros(shape, dtype=torch.bool) if boolean else torch.full(shape, filler)
        for row, one in enumerate(samples):
            whole[row, : one[name].shape[1]] = one[name][0]
        batch[name] = whole
    return batch


@settings(max_examples=12, deadline=None)
@given(data=st.data(), filler=st.sampled_from([7.0, torch.nan, torch.inf]))
@pytest.mark.parametrize("name", SETTINGS)
def test_a_ragged_batch_equals_its_samples_alone(name: str, data: st.DataObject, filler: float) -> None:
    samples = [sample(data, seed) for seed in range(data.draw(st.integers(1, 3)))]
    patch = random_patch(**SETTINGS[name] | ({"num_frames": 5} if name == "learnable" else {}))
    together = patch(**padded(samples, filler=filler))
    for row, one in enumerate(samples):
        alone = patch(**one)
        frames = alone.shape[1]
        torch.testing.assert_close(together[row, :frames], alone[0], atol=1e-5, rtol=1e-5)
        assert not together[row, frames:].any()
        assert bool(alone.any()) == (one["side"].shape[1] > 0)


def test_the_batch_test_tells_samples_apart() -> None:
    patch = random_patch()
    queries, side = torch.ones(1, 2, TOKENS, 5), torch.ones(1, 4, SIDE_TOKENS, 6)
    mask = torch.tensor([[True, True, True, False]])
    changed = side.clone()
    changed[:, 2] += 1
    before, after = patch(queries, side=side, side_mask=mask), patch(queries, side=changed, side_mask=mask)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_padding_gets_no_gradient_and_gives_none() -> None:
    patch = random_patch()
    queries, side = torch.randn(1, 3, TOKENS, 5), torch.randn(1, 4, SIDE_TOKENS, 6)
    queries[:, 2], side[:, 3] = torch.nan, torch.nan
    queries.requires_grad_()
    side.requires_grad_()
    patch(
        queries,
        side=side,
        frame_mask=torch.tensor([[True, True, False]]),
        side_mask=torch.tensor([[True, True, True, False]]),
    ).square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in patch.parameters() if parameter.grad is not None)
    assert side.grad is not None
    assert queries.grad is not None
    assert not side.grad[:, 3].any()
    assert bool(side.grad[:, :3].any(-1).all())
    assert not queries.grad[:, 2].any()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_fresh_patch_adds_zero_and_only_its_last_norm_learns_at_first(name: str) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"side_dim": 6, "query_dim": 5, "output_dim": 7, "embed_dim": 16, "num_heads": 2}
    patch = PavePatch(**sizes | SETTINGS[name])
    update = patch(torch.randn(2, 3, TOKENS, 5), side=torch.randn(2, 5, SIDE_TOKENS, 6))
    assert torch.equal(update, torch.zeros(2, 3, TOKENS, 7))
    (update * torch.randn(update.shape)).sum().backward()
    moving = {key for key, value in patch.named_parameters() if value.grad is not None and bool(value.grad.any())}
    assert moving == {"norm.weight", "norm.bias"}


def test_all_parameters_act_once_the_patch_is_trained() -> None:
    for name, changes in SETTINGS.items():
        patch = random_patch(**changes)
        patch(torch.randn(2, 3, TOKENS, 5), side=torch.randn(2, 5, SIDE_TOKENS, 6)).square().sum().backward()
        still = [key for key, value in patch.named_parameters() if value.grad is None or not bool(value.grad.any())]
        assert still == [], name


def test_a_clock_decides_which_steps_a_frame_reads() -> None:
    patch, by_count = random_patch(), random_patch(alignment="count")
    queries, side = torch.randn(1, 2, TOKENS, 5), torch.randn(1, 4, SIDE_TOKENS, 6)
    late = torch.tensor([[[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]])
    times = {"frame_times": torch.tensor([[[0.0, 1.0], [1.0, 4.0]]]), "side_times": late}
    timed = patch(queries, side=side, **times)
    torch.testing.assert_close(timed[:, :1], patch(queries[:, :1], side=side[:, :1]))
    torch.testing.assert_close(timed[:, 1:], patch(queries[:, 1:], side=side[:, 1:]))
    assert torch.equal(by_count(queries, side=side, **times), patch(queries, side=side))


def test_rotary_time_is_measured_in_seconds_where_there_is_a_clock() -> None:
    patch = random_patch(rotary="time")
    queries, side = torch.randn(1, 2, TOKENS, 5), torch.randn(1, 4, SIDE_TOKENS, 6)
    frames = torch.tensor([[[0.0, 2.0], [2.0, 4.0]]])
    steps = torch.tensor([[[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]])
    here = patch(queries, side=side, frame_times=frames, side_times=steps)
    later = patch(queries, side=side, frame_times=frames + 9, side_times=steps + 9)
    slower = patch(queries, side=side, frame_times=frames * 3, side_times=steps * 3)
    torch.testing.assert_close(here, later, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(here, slower, atol=1e-3)


def test_bfloat16_stays_near_float32_and_in_its_dtype() -> None:
    for name, changes in SETTINGS.items():
        patch = random_patch(**changes)
        queries, side = torch.randn(1, 3, TOKENS, 5), torch.randn(1, 2, SIDE_TOKENS, 6)
        exact = patch(queries, side=side)
        rough = patch.bfloat16()(queries.bfloat16(), side=side.bfloat16())
        assert rough.dtype == torch.bfloat16
        similarity = torch.nn.functional.cosine_similarity(rough.detach().float().flatten(), exact.flatten(), dim=0)
        assert similarity.item() > 0.99, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"queries": "text"},
            "queries='text' is not known to PAVE. Accepted: visual, learnable. Use queries='visual', the default.",
        ),
        (
            {"alignment": "clock"},
            "alignment='clock' is not known to PAVE. Accepted: time, count. Use alignment='time', the default.",
        ),
        (
            {"side_map": "mlp"},
            "side_map='mlp' is not known to PAVE. Accepted: linear, conv. Use side_map='linear', the default.",
        ),
        (
            {"num_heads": 3},
            "3 heads do not divide a width of 16. The width must be a multiple of the heads. Use num_heads=4 with a "
            "width of 512, as published.",
        ),
        (
            {"query_dim": None},
            "queries='visual' without a width. Visual tokens need theirs. Pass query_dim, the vision encoder's width, "
            "or queries='learnable'.",
        ),
        (
            {"side_map": "conv"},
            "side_map='conv' with 0 conv_stages. Accepted: 'linear' without stages, 'conv' with at least one. Pass "
            "conv_stages=[(width, inner_width, num_blocks, stride)] or side_map='linear'.",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        random_patch(**changes)
    assert str(caught.value) == message


def test_learnable_queries_serve_only_the_frames_they_were_made_for() -> None:
    patch = random_patch(**SETTINGS["learnable"])
    with pytest.raises(OptionsError) as caught:
        patch(torch.zeros(1, 5, TOKENS, 5), side=torch.zeros(1, 2, SIDE_TOKENS, 6))
    assert str(caught.value) == (
        "5 frames of 4 tokens came. Learnable queries were made for up to 4 frames of 4. Read that many frames, or "
        "build the patch with other num_frames and tokens_per_frame."
    )


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=3)
