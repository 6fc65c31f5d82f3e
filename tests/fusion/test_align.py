"""Supporting modalities land on the major modality's frames by what they declare and by their clocks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crema_core.fusion.align import Grid, align, frame_grid
from crema_core.tokens import ModalityTokens


def steps(values: list[float], *, times: list[tuple[float, float]] | None = None, pad: int = 0) -> ModalityTokens:
    """One sample with one query of width one per step, and `pad` padded steps of value 99."""
    tensor = torch.tensor([*values, *([99.0] * pad)]).float().reshape(1, -1, 1, 1)
    mask = torch.tensor([[True] * len(values) + [False] * pad])
    clock = None if times is None else torch.tensor([[*times, *([(0.0, 0.0)] * pad)]])
    return ModalityTokens(tensor, mask, torch.tensor([0]), clock)


def grid_of(num_steps: int, *, seconds: float | None = None, pad: int = 0) -> Grid:
    mask = torch.tensor([[True] * num_steps + [False] * pad])
    times = torch.full((1, num_steps + pad, 2), torch.nan)
    if seconds is not None:
        edges = torch.linspace(0, seconds, num_steps + 1)
        times[0, :num_steps] = torch.stack([edges[:-1], edges[1:]], dim=1)
    return Grid(mask, times)


def values(aligned: Tensor) -> list[float]:
    return aligned.flatten().tolist()


def test_as_many_steps_as_frames_stay_as_they_are() -> None:
    assert values(align(steps([1, 2, 3], pad=1), grid_of(3), per_frame=True)) == [1, 2, 3]


def test_a_static_modality_is_repeated_for_every_frame() -> None:
    assert values(align(steps([7]), grid_of(3, pad=1), per_frame=False)) == [7, 7, 7, 0]


def test_steps_without_clock_are_averaged_and_repeated_even_when_the_counts_agree() -> None:
    assert values(align(steps([1, 2, 6], pad=2), grid_of(3), per_frame=False)) == [3, 3, 3]


def test_steps_with_clock_are_averaged_within_each_frames_span() -> None:
    tokens = steps([1, 3, 10, 20], times=[(0, 1), (1, 2), (2, 3), (3, 4)])
    assert values(align(tokens, grid_of(2, seconds=4), per_frame=False)) == [2, 15]


def test_partial_overlap_weighs_by_seconds() -> None:
    tokens = steps([0, 8], times=[(0, 3), (3, 4)])
    assert values(align(tokens, grid_of(2, seconds=4), per_frame=False)) == [0, 4]


def test_a_frame_nothing_overlaps_gets_the_mean() -> None:
    tokens = steps([2, 4], times=[(0, 1), (1, 2)])
    assert values(align(tokens, grid_of(2, seconds=8), per_frame=False)) == [3, 3]


def test_a_frame_modality_with_as_many_steps_as_its_own_sample_has_frames_is_not_averaged_beside_longer_ones() -> None:
    main = Grid(torch.tensor([[True, True, False], [True, True, True]]), torch.full((2, 3, 2), torch.nan))
    own = ModalityTokens(
        torch.tensor([[1.0, 2.0, 99.0], [4.0, 8.0, 99.0]])[:, :, None, None],
        torch.tensor([[True, True, False], [True, True, False]]),
        torch.tensor([0, 1]),
    )
    assert align(own, main, per_frame=True).flatten(1).tolist() == [[1, 2, 0], [6, 6, 6]]
    assert align(own, main, per_frame=False).flatten(1).tolist() == [[1.5, 1.5, 0], [6, 6, 6]]


def test_a_frame_modality_with_another_number_of_steps_is_aligned_by_its_clock() -> None:
    tokens = steps([1, 3, 10, 20], times=[(0, 1), (1, 2), (2, 3), (3, 4)])
    assert values(align(tokens, grid_of(2, seconds=4), per_frame=True)) == [2, 15]


def test_only_the_samples_that_have_a_modality_are_aligned_each_to_its_own_frames() -> None:
    both = Grid(torch.ones(2, 2, dtype=torch.bool), torch.tensor([[[0.0, 3], [3, 4]], [[0.0, 1], [1, 4]]]))
    tokens = steps([1, 3, 10, 20], times=[(0, 1), (1, 2), (2, 3), (3, 4)])._replace(rows=torch.tensor([1]))
    assert values(align(tokens, both, per_frame=False)) == [1, 11]


def test_padded_steps_have_no_share_even_where_their_times_overlap() -> None:
    tokens = steps([2, 4, 99], times=[(0, 2), (2, 4), (0, 4)])._replace(mask=torch.tensor([[True, True, False]]))
    assert values(align(tokens, grid_of(2, seconds=4), per_frame=False)) == [2, 4]
    assert values(align(tokens, grid_of(2), per_frame=False)) == [3, 3], "nor in the mean"


def test_a_clock_on_one_side_alone_is_not_used() -> None:
    clocked = steps([1, 3], times=[(0, 1), (1, 2)])
    assert values(align(clocked, grid_of(2), per_frame=False)) == [2, 2]
    assert values(align(steps([1, 3]), grid_of(2, seconds=2), per_frame=False)) == [2, 2]


def test_padded_frames_stay_zero_whatever_their_times() -> None:
    grid = grid_of(2, seconds=4, pad=1)
    grid.times[0, 2] = torch.tensor([0.0, 4.0])
    tokens = steps([1, 3], times=[(0, 2), (2, 4)])
    assert values(align(tokens, grid, per_frame=False)) == [1, 3, 0]
    padded = Grid(torch.tensor([[True, False]]), torch.full((1, 2, 2), torch.nan))
    same = steps([1, 3])._replace(mask=torch.tensor([[True, False]]))
    assert values(align(same, padded, per_frame=True)) == [1, 0]


def test_every_query_and_channel_is_aligned_alike() -> None:
    tokens = ModalityTokens(
        torch.arange(12.0).reshape(1, 2, 3, 2),
        torch.ones(1, 2, dtype=torch.bool),
        torch.tensor([0]),
        torch.tensor([[[0.0, 2], [2, 4]]]),
    )
    aligned = align(tokens, grid_of(4, seconds=4), per_frame=False)
    assert torch.equal(aligned, tokens.values.repeat_interleave(2, dim=1))


@settings(max_examples=40, deadline=None)
@given(own=st.integers(1, 6), frames=st.integers(1, 6), pad=st.integers(0, 3), clock=st.booleans())
def test_alignment_is_an_average_of_real_steps_whatever_the_lengths(
    own: int, frames: int, pad: int, clock: bool
) -> None:
    times = [(float(i), float(i + 1)) for i in range(own)] if clock else None
    aligned = align(steps([5.0] * own, times=times, pad=pad), grid_of(frames, seconds=4.0), per_frame=False)
    torch.testing.assert_close(aligned, torch.full_like(aligned, 5.0))


def test_the_grid_is_the_major_modalities_then_a_per_frame_modalities_then_one_step() -> None:
    def tokens(rows: list[int], num_steps: int) -> ModalityTokens:
        return ModalityTokens(
            torch.zeros(len(rows), num_steps, 1, 1),
            torch.ones(len(rows), num_steps, dtype=torch.bool),
            torch.tensor(rows),
        )

    modalities = {"main": tokens([0], 2), "other": tokens([0, 1], 3), "wave": tokens([0, 1, 2], 5)}
    grid = frame_grid(modalities, "main", frozenset({"main", "other"}), 3)
    assert grid.mask.sum(1).tolist() == [2, 3, 1]


def test_the_grid_has_the_clock_of_the_modality_that_gives_its_frames() -> None:
    def tokens(rows: list[int], num_steps: int, *, start_s: float | None) -> ModalityTokens:
        begin = torch.arange(num_steps) + (start_s or 0.0)
        clock = torch.stack([begin, begin + 1], dim=-1).expand(len(rows), -1, -1)
        mask = torch.ones(len(rows), num_steps, dtype=torch.bool)
        values = torch.zeros(len(rows), num_steps, 1, 1)
        return ModalityTokens(values, mask, torch.tensor(rows), None if start_s is None else clock)

    modalities = {
        "wave": tokens([0, 1, 2, 3], 5, start_s=50.0),
        "other": tokens([0, 1], 3, start_s=10.0),
        "main": tokens([0], 2, start_s=30.0),
        "third": tokens([1, 2], 1, start_s=None),
    }
    grid = frame_grid(modalities, "main", frozenset({"main", "other", "third"}), 4)
    assert grid.mask.tolist() == [[True, True, False], [True, True, True], [True, False, False], [True, False, False]]
    assert grid.times[:, :, 0].nan_to_num(-1).tolist() == [[30, 31, -1], [10, 11, 12], [-1, -1, -1], [-1, -1, -1]]
    assert grid.times[:, :, 1].nan_to_num(-1).tolist() == [[31, 32, -1], [11, 12, 13], [-1, -1, -1], [-1, -1, -1]]


def test_modalities_without_frames_share_one_step() -> None:
    grid = frame_grid({"wave": steps([1, 2, 3], times=[(0, 1), (1, 2), (2, 3)])}, "main", frozenset({"main"}), 1)
    assert grid.mask.tolist() == [[True]]
    assert bool(grid.times.isnan().all())


def test_a_modality_that_the_first_sample_lacks_lies_on_the_frames_of_its_own_sample() -> None:
    grid = Grid(torch.tensor([[True, False], [True, True]]), torch.full((2, 2, 2), torch.nan))
    second = steps([4, 8])._replace(rows=torch.tensor([1]))
    assert values(align(second, grid, per_frame=True)) == [4, 8]
    assert values(align(second, grid, per_frame=False)) == [6, 6]
    short = steps([4, 8])._replace(rows=torch.tensor([1]), mask=torch.tensor([[True, False]]))
    assert values(align(short, grid, per_frame=True)) == [4, 4]


def test_frames_need_not_begin_with_the_first_step() -> None:
    major = steps([1, 2])._replace(mask=torch.tensor([[False, True]]))
    assert frame_grid({"main": major}, "main", frozenset({"main"}), 1).mask.tolist() == [[False, True]]
