"""Positions by time, row and column are those transformers gives the same prompt."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLConfig, Qwen2VLModel

from crema_pave.backbones.positions import Places, RotaryAxes, count_positions, step_seconds

SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 6), st.integers(1, 4), st.sampled_from([None, 0.25, 0.4, 1.0, 1.5, 7.0])
    ),
    min_size=1,
    max_size=4,
)
"""Of each sample: text before the clip, steps, text behind it, and seconds from step to step."""


def theirs(newer: bool, per_second: int) -> SimpleNamespace:
    """Return what transformers' rule reads of a model."""
    kind = Qwen2_5_VLModel if newer else Qwen2VLModel
    config = Qwen2_5_VLConfig(vision_config={"tokens_per_second": per_second}) if newer else Qwen2VLConfig()
    own = SimpleNamespace(config=config)
    own.get_vision_position_ids = lambda *given, **named: kind.get_vision_position_ids(own, *given, **named)  # type: ignore[arg-type]
    own.rope = lambda **named: kind.get_rope_index(own, **named)  # type: ignore[arg-type]
    return own


def texts(lengths: list[int]) -> Tensor:
    return torch.arange(max(*lengths, 1))[None] < torch.tensor(lengths)[:, None]


@settings(max_examples=60, deadline=None)
@given(samples=SAMPLES, rows=st.integers(1, 3), columns=st.integers(1, 3), per_second=st.sampled_from([None, 2, 3]))
def test_positions_are_those_of_transformers(
    samples: list[tuple[int, int, int, float | None]], rows: int, columns: int, per_second: int | None
) -> None:
    before, behind = texts([one[0] for one in samples]), texts([one[2] for one in samples])
    steps = texts([one[1] for one in samples])
    edges = torch.arange(steps.shape[1] + 1) * torch.tensor([one[3] or torch.nan for one in samples])[:, None] + 0.3
    mask = steps[:, :, None].expand(-1, -1, rows * columns)
    axes = RotaryAxes(per_second)
    places = axes.places(mask, (rows, columns), torch.stack([edges[:, :-1], edges[:, 1:]], dim=-1))
    masks = [before, mask.flatten(1), behind]
    own = count_positions([(before, None), (masks[1], places), (behind, None)])
    real = torch.cat(masks, dim=1)
    model = theirs(per_second is not None, per_second or 2)
    for row, (_, num_steps, _, seconds) in enumerate(samples):
        kinds = torch.cat(
            [torch.full((int(one[row].sum()),), kind) for one, kind in zip(masks, (0, 2, 0), strict=True)]
        )
        wanted, _ = model.rope(
            input_ids=kinds[None],
            mm_token_type_ids=kinds[None],
            video_grid_thw=torch.tensor([[num_steps, 2 * rows, 2 * columns]]),
            second_per_grid_ts=torch.tensor([seconds or 1.0], dtype=torch.float64),
        )
        assert torch.equal(own[row][real[row]].T, wanted[:, 0])
    assert not own[~real].any()


def test_a_float_just_below_a_whole_position_is_that_position() -> None:
    starts = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0, 4 / 3])  # of float32, whose steps are not exactly a third
    times = torch.stack([starts, starts + 1 / 3], dim=-1)[None]
    places = RotaryAxes(3).places(torch.ones(1, 5, 1, dtype=torch.bool), (1, 1), times)
    assert places.values[0, :, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("times", "mask", "wanted"),
    [
        (None, [True, True], 1.0),
        ([[0.0, 2.0], [2.0, 4.0]], [True, True], 2.0),
        ([[0.0, 2.0], [2.0, 4.0]], [True, False], 1.0),
        ([[0.0, 2.0], [torch.nan, torch.nan]], [True, True], 1.0),
        ([[9.0, 9.5], [1.0, 2.0], [4.0, 5.0], [7.0, 8.0]], [False, True, True, True], 3.0),
    ],
    ids=["no clock", "two steps", "a single step", "no clock beside others", "padded in front"],
)
def test_seconds_are_the_mean_from_step_to_step(
    times: list[list[float]] | None, mask: list[bool], wanted: float
) -> None:
    given = None if times is None else torch.tensor([times])
    assert step_seconds(given, torch.tensor([mask])).tolist() == [wanted]


def test_text_behind_a_clip_goes_on_after_the_larger_side() -> None:
    clip = Places(torch.zeros(1, 2, 3, dtype=torch.int64), extent=5)
    text = torch.ones(1, 2, dtype=torch.bool)
    positions = count_positions([(text, None), (text, clip), (text, None)])
    assert positions[0, :, 0].tolist() == [0, 1, 2, 2, 7, 8]
