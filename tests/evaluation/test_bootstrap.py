"""Intervals by drawing clips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.evaluation.bootstrap import bootstrap_change, bootstrap_interval


def test_two_clips_give_the_three_possible_accuracies() -> None:
    # One clip all right, one all wrong: draws are 0, 1/2 and 1 with 1/4, 1/2, 1/4.
    assert bootstrap_interval([True, False], ["a", "b"]) == (0.0, 1.0)
    assert bootstrap_interval([True, False], ["a", "b"], level=0.4) == (0.5, 0.5)


def test_questions_about_one_clip_are_drawn_together() -> None:
    right = [number % 10 == 0 for number in range(100)]
    alone = bootstrap_interval(right, [str(number) for number in range(100)])
    together = bootstrap_interval(sorted(right), [str(number // 10) for number in range(100)])
    assert alone[1] - alone[0] < together[1] - together[0]
    # The binomial standard error is 0.03; 1.96 of it to either side.
    assert alone == pytest.approx((0.05, 0.16), abs=0.015)


def test_the_interval_depends_on_the_seed_alone() -> None:
    right, clips = [True, False, True, True, False], list("abcde")
    assert bootstrap_interval(right, clips, seed=1) == bootstrap_interval(right, clips, seed=1)


def test_one_clip_says_nothing() -> None:
    assert bootstrap_interval([True, True], ["a", "a"]) == (0.0, 1.0)


def test_a_change_is_drawn_over_pairs() -> None:
    # Half of the clips are right in both situations, one clip in ten is lost: the pairs vary less than either does.
    before = [number % 2 == 0 for number in range(200)]
    right = [own and number % 20 != 0 for number, own in enumerate(before)]
    clips = [str(number) for number in range(200)]
    low, high = bootstrap_change(right, before, clips)
    # A loss of 0.05 with a standard error of sqrt(0.05 x 0.95 / 200) = 0.0154.
    assert (low, high) == pytest.approx((-0.08, -0.02), abs=0.01)
    alone = bootstrap_interval(right, clips)
    assert high - low < alone[1] - alone[0]


def test_equal_answers_have_no_change_and_one_clip_says_nothing() -> None:
    assert bootstrap_change([True, False], [True, False], ["a", "b"]) == (0.0, 0.0)
    assert bootstrap_change([True], [False], ["a"]) == (-1.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_turning_a_change_round_turns_its_interval_round(answers: list[tuple[bool, bool, int]]) -> None:
    right, before, clips = zip(*[(own, old, str(clip)) for own, old, clip in answers], strict=True)
    low, high = bootstrap_change(right, before, clips, num_draws=101)
    assert bootstrap_change(before, right, clips, num_draws=101) == pytest.approx((-high, -low), abs=1e-9)
    assert -1 <= low <= high <= 1
