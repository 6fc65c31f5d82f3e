"""Rotary embedding: the released tables, what only differences of positions can change, and any head width."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_core.errors import OptionsError
from crema_pave.rotary import (
    Rotary,
    axis_pairs,
    cell_centres,
    frequencies,
    index_times,
    rotate,
    rotation,
    second_times,
    square_grid,
)
from tests.support.pave import DATA

TABLES = json.loads((DATA / "integer_tables.json").read_text())["rope_indices"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table['frames']}x{table['steps']}")
def test_positions_of_the_released_tables(table: dict[str, Any]) -> None:
    masks = [torch.ones(1, table[name], dtype=torch.bool) for name in ("frames", "steps")]
    frames, steps = index_times(*masks)
    assert frames[0].tolist() == table["query_time_index"]
    assert steps[0].tolist() == table["key_time_index"]
    query, key = (math.isqrt(table[f"tokens_per_{name}"]) for name in ("frame", "step"))
    assert cell_centres(query, max(query, key)).tolist() == table["query_row_col_index"]
    assert cell_centres(key, max(query, key)).tolist() == table["key_row_col_index"]


def test_the_released_split_and_frequencies() -> None:
    assert axis_pairs("released_3d", 128) == (16, 24, 24)
    expected = 10_000.0 ** (-torch.arange(64) / 64)
    torch.testing.assert_close(frequencies("released_3d", 128), expected)
    torch.testing.assert_close(frequencies("time", 128), expected)


def test_every_axis_has_the_whole_range_unless_the_released_rule_is_asked_for() -> None:
    rates = frequencies("space_time", 128)
    assert [float(rates[start]) for start in (0, 16, 40)] == [1, 1, 1]
    largest_column_angle = float(13 * frequencies("released_3d", 128)[40])
    assert largest_column_angle == pytest.approx(0.041, abs=1e-3)


@given(half=st.integers(3, 100), rotary=st.sampled_from(["time", "space_time", "released_3d"]))
def test_any_even_head_width_is_split_completely(half: int, rotary: Rotary) -> None:
    time, rows, columns = axis_pairs(rotary, 2 * half)
    assert time + rows + columns == half == frequencies(rotary, 2 * half).numel()
    assert time > 0
    assert rows == columns
    assert (rows > 0) == (rotary != "time")


def test_a_head_width_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        axis_pairs("space_time", 4)
    assert str(caught.value) == (
        "rotary='space_time' cannot turn heads 4 wide. It needs an even width of at least 6. Use fewer or more heads, "
        "or rotary='none'."
    )
    with pytest.raises(OptionsError) as caught:
        axis_pairs("time", 7)
    assert str(caught.value) == (
        "rotary='time' cannot turn heads 7 wide. It needs an even width. Use fewer or more heads, or rotary='none'."
    )


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        axis_pairs("3d", 128)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "rotary='3d' is not a rule. Accepted: none, time, space_time, released_3d. Use rotary='none', as all published "
        "PAVE checkpoints."
    )


@settings(max_examples=25, deadline=None)
@given(shift=st.integers(-50, 50), rotary=st.sampled_from(["time", "space_time", "released_3d"]))
def test_scores_depend_on_differences_of_time_only(shift: int, rotary: Rotary) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 4, 1, 16, generator=generator)
    key = torch.randn(1, 3, 6, 1, 16, generator=generator)
    query_times, key_times = torch.tensor([[0.5, 2.0]]), torch.tensor([[0.0, 1.0, 2.5]])
    scores = []
    for start in (0, shift):
        angles = rotation(
            rotary,
            16,
            query_times=query_times + start,
            key_times=key_times + start,
            query_grid=(2, 2),
            key_grid=(2, 3),
        )
        turned = rotate(query, angles.queries).flatten(1, 2), rotate(key, angles.keys).flatten(1, 2)
        scores.append(torch.einsum("bqhd,bkhd->bqk", *turned))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)


def test_rotation_keeps_lengths_and_the_dtype() -> None:
    values = torch.randn(1, 2, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([[3.0, 7.0]])
    angles = rotation("space_time", 8, query_times=times, key_times=times, query_grid=(2, 2), key_grid=(4, 1))
    torch.testing.assert_close(rotate(values, angles.queries).norm(dim=-1), values.norm(dim=-1))
    assert angles.queries.dtype == torch.float32
    assert rotate(values.bfloat16(), angles.queries).dtype == torch.bfloat16


def test_seconds_are_the_middles_of_spans() -> None:
    frames, steps = second_times(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[1.0, 2.0], [2.0, 3.0]]]))
    assert (frames.tolist(), steps.tolist()) == ([[1.0]], [[1.5, 2.5]])


def test_tokens_that_make_no_grid_are_refused() -> None:
    assert square_grid(12, (3, 4), of="side") == (3, 4)
    assert square_grid(9, None, of="side") == (3, 3)
    with pytest.raises(OptionsError) as caught:
        square_grid(12, None, of="side")
    assert str(caught.value) == (
        "12 side tokens of a step make no square. Accepted: rows times columns of them, row by row. Pass "
        "side_grid=(rows, columns)."
    )
    with pytest.raises(OptionsError) as caught:
        square_grid(12, (2, 5), of="query")
    assert str(caught.value) == (
        "12 query tokens of a step make a grid of 2 x 5. Accepted: rows times columns of them, row by row. Pass "
        "query_grid=(rows, columns)."
    )
