"""Which side steps a frame reads: dealt out by count, or by overlap in seconds."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crema_pave.grouping import count_groups, gather_index, have_clocks, ranks, stretch, time_groups
from tests.support.pave import DATA

TABLES = json.loads((DATA / "integer_tables.json").read_text())
COUNTS = st.integers(1, 40)


def real(count: int, *, pad: int = 0) -> Tensor:
    return torch.tensor([[True] * count + [False] * pad])


def spans(*edges: tuple[float, float]) -> Tensor:
    return torch.tensor([edges])


@pytest.mark.parametrize("name", TABLES["group_sizes"])
def test_sizes_of_the_released_groups(name: str) -> None:
    steps, frames = (int(word) for word in name.split() if word.isdigit())
    groups = count_groups(real(frames), real(steps))
    assert groups.sum(2)[0].tolist() == TABLES["group_sizes"][name]


@settings(max_examples=60, deadline=None)
@given(frames=COUNTS, steps=COUNTS, pad_frames=st.integers(0, 3), pad_steps=st.integers(0, 3))
def test_groups_by_count_partition_the_steps_in_order(frames: int, steps: int, pad_frames: int, pad_steps: int) -> None:
    groups = count_groups(real(frames, pad=pad_frames), real(steps, pad=pad_steps))[0]
    assert not groups[frames:].any()
    assert not groups[:, steps:].any()
    assert groups[:frames].any(1).all()
    if steps >= frames:
        assert groups.sum(0)[:steps].tolist() == [1] * steps
        owner = groups[:frames, :steps].long().argmax(0)
        assert (owner.diff() >= 0).all()


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(1, 256), steps=st.integers(1, 64))
def test_no_frame_is_left_empty_by_rounding(frames: int, steps: int) -> None:
    groups = count_groups(real(frames), real(steps))
    values = torch.arange(float(steps)).reshape(1, steps, 1, 1)
    stretched, mask = stretch(values, real(steps)[..., None], real(frames), torch.tensor([steps < frames]))
    assert bool(groups.any(2).all())
    assert mask[..., 0].sum(1).tolist() == [max(frames, steps)]
    if steps < frames:
        places = torch.arange(frames, dtype=torch.float64) * (steps - 1) / max(frames - 1, 1)
        torch.testing.assert_close(stretched[0, :, 0, 0], places.float(), atol=1e-5, rtol=1e-5)


def test_a_frame_between_two_steps_reads_both() -> None:
    assert count_groups(real(3), real(2))[0].int().tolist() == [[1, 0], [1, 1], [0, 1]]
    assert count_groups(real(3), real(1))[0].int().tolist() == [[1], [1], [1]]


def test_every_sample_is_grouped_by_its_own_lengths_holes_included() -> None:
    frames = torch.tensor([[True, True, False], [True, False, True]])
    steps = torch.tensor([[True, True, True, False], [True, False, True, True]])
    assert ranks(steps).tolist() == [[0, 1, 2, 2], [0, 0, 1, 2]]
    assert count_groups(frames, steps).int().tolist() == [
        [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
        [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]],
    ]


def test_without_steps_or_frames_there_are_no_groups() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert not count_groups(real(2), nothing).any()
    assert not count_groups(nothing, real(2)).any()
    assert not time_groups(torch.zeros(1, 2, 2), torch.zeros(1, 3, 2), real(2), nothing).any()


def test_a_frame_reads_the_steps_that_overlap_its_seconds() -> None:
    frames = spans((0, 2), (2, 4))
    steps = spans((0, 1), (1, 3), (3, 4), (4, 5))
    groups = time_groups(frames, steps, real(2), real(4))
    assert groups[0].int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]


def test_a_frame_nothing_overlaps_reads_the_nearest_step_and_the_earlier_of_two() -> None:
    frames = spans((4, 5), (10, 11), (0, 0.5))
    steps = spans((1, 3), (6, 7))
    groups = time_groups(frames, steps, real(3), real(2))
    assert groups[0].int().tolist() == [[1, 0], [0, 1], [1, 0]]


def test_an_instant_belongs_to_the_span_that_starts_with_it() -> None:
    steps = spans((0, 1), (1, 2))
    groups = time_groups(spans((0, 0), (1, 1), (1.5, 1.5)), steps, real(3), real(2))
    assert groups[0].int().tolist() == [[1, 0], [0, 1], [0, 1]]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), frames=st.integers(1, 6), steps=st.integers(1, 8))
def test_groups_by_time_need_no_order_and_are_never_empty(data: st.DataObject, frames: int, steps: int) -> None:
    second = st.integers(0, 20)

    def draw(count: int) -> Tensor:
        pairs = [data.draw(st.tuples(second, st.integers(1, 5))) for _ in range(count)]
        return torch.tensor([[[float(start), float(start + length)] for start, length in pairs]])

    frame_times, step_times = draw(frames), draw(steps)
    groups = time_groups(frame_times, step_times, real(frames), real(steps))
    assert groups.any(2).all()
    for frame in range(frames):
        start, end = frame_times[0, frame].tolist()
        gaps = [max(a - end, start - b) for a, b in step_times[0].tolist()]
        inside = [gap < 0 for gap in gaps]
        wanted = inside if any(inside) else [step == gaps.index(min(gaps)) for step in range(steps)]
        assert groups[0, frame].tolist() == wanted
    order = torch.randperm(steps, generator=torch.Generator().manual_seed(0))
    unsorted = time_groups(frame_times, step_times[:, order], real(frames), real(steps))
    overlapping = (groups.sum(2, keepdim=True) > 1).expand_as(groups)
    assert torch.equal(unsorted[overlapping[:, :, order]], groups[:, :, order][overlapping[:, :, order]])


def test_a_clock_counts_only_where_all_real_frames_and_steps_have_seconds() -> None:
    frames = torch.zeros(3, 2, 2)
    steps = torch.zeros(3, 2, 2)
    frames[1, 0], steps[2, 1] = torch.nan, torch.nan
    mask = torch.ones(3, 2, dtype=torch.bool)
    assert have_clocks(frames, steps, mask, mask).tolist() == [True, False, False]
    padded = torch.tensor([[True, True], [True, True], [True, False]])
    assert have_clocks(frames, steps, mask, padded).tolist() == [True, False, True]


def test_groups_are_padded_to_the_longest() -> None:
    groups = gather_index(count_groups(real(2), real(3)))
    assert groups.mask.tolist() == [[[True, True], [True, False]]]
    assert groups.steps[groups.mask].tolist() == [0, 1, 2]


def test_a_token_only_one_neighbour_has_is_taken_from_it() -> None:
    values = torch.tensor([[[1.0, 10.0], [3.0, 99.0]]])[..., None]
    mask = torch.tensor([[[True, True], [True, False]]])
    stretched, new_mask = stretch(values, mask, real(3), torch.tensor([True]))
    assert stretched[0, :, :, 0].tolist() == [[1, 10], [2, 10], [3, 0]]
    assert new_mask[0].tolist() == [[True, True], [True, True], [True, False]]


def test_only_the_samples_asked_for_are_stretched() -> None:
    values = torch.tensor([[1.0, 5.0], [1.0, 5.0]])[:, :, None, None]
    mask = torch.ones(2, 2, 1, dtype=torch.bool)
    stretched, new_mask = stretch(values, mask, real(3).expand(2, -1), torch.tensor([True, False]))
    assert stretched[..., 0, 0].tolist() == [[1, 3, 5], [1, 5, 0]]
    assert new_mask[..., 0].tolist() == [[True, True, True], [True, True, False]]
