"""Which frames are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.data.sampling import middle_indices, segment_bounds, segment_spans


@pytest.mark.parametrize(
    ("available", "wanted", "expected"),
    [
        (16, 4, [2, 6, 10, 14]),
        (1, 4, [0, 0, 0, 0]),
        (3, 4, [0, 0, 1, 2]),  # these six as the released CREMA code gives them
        (4, 4, [0, 1, 2, 3]),
        (8, 4, [1, 3, 5, 7]),
        (32, 4, [4, 12, 20, 28]),
        (5, 1, [2]),
    ],
)
def test_the_middle_frame_of_every_segment_is_taken(available: int, wanted: int, expected: list[int]) -> None:
    assert middle_indices(available, wanted) == expected


@given(st.integers(1, 500), st.integers(1, 64))
def test_indices_ascend_and_lie_inside_their_segment(available: int, wanted: int) -> None:
    indices, bounds = middle_indices(available, wanted), segment_bounds(available, wanted)
    assert len(indices) == wanted
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < available
    assert all(low <= index <= high for low, index, high in zip(bounds, indices, bounds[1:], strict=False))


@given(st.integers(1, 60), st.integers(1, 12))
def test_spans_are_never_empty_and_hold_their_frame(available: int, wanted: int) -> None:
    spans = segment_spans([index / 8 for index in range(available)], available / 8, wanted)
    for index, (start, end) in zip(middle_indices(available, wanted), spans, strict=True):
        assert start <= index / 8 < end


def test_spans_of_enough_frames_cover_the_clip() -> None:
    assert segment_spans([0.0, 0.5, 1.0, 1.5], 2.0, 2) == [(0.0, 1.0), (1.0, 2.0)]
