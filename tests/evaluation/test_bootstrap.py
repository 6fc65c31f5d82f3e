"""Intervals by drawing clips."""

from __future__ import annotations

import pytest

from crema_core.evaluation.bootstrap import bootstrap_interval


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
