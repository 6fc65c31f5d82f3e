"""The rule by which the released code chooses frames."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crema_merv.group import spread_indices


@given(st.integers(1, 500), st.integers(1, 64))
def test_spread_frames_go_from_the_first_to_the_last(available: int, wanted: int) -> None:
    indices = spread_indices(available, wanted)
    exact = np.linspace(0, available - 1, wanted)
    # As the released MERV code truncates them; where its float falls short of a whole number, ours does not.
    assert indices == [int(value + 1e-9) for value in exact]
