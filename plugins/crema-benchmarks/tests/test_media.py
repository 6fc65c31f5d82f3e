"""Sources of data sets as texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crema_benchmarks.media import join_span
from crema_core.data.sampling import Span, split_span

times = st.none() | st.integers(0, 90_000).map(lambda thousandths: thousandths / 1000)


@given(st.text(alphabet="ab/. ", min_size=1), times, times)
def test_what_is_joined_is_split_again(path: str, start_s: float | None, end_s: float | None) -> None:
    assert split_span(join_span(path, start_s, end_s)) == Span(path, start_s, end_s)
