"""Intervals by drawing clips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_change_is_drawn_over_pairs() -> None:
    # Half of the clips are right in both situations, one clip in ten is lost: the pairs vary less than either does.
    before = [number % 2 == 0 for number in range(200)]
    right = [own and number % 20 != 0 for number, own in enumerate(before)]
    clips = [str(number) for number in range(200)]
    low, high = bootstrap_interval(right, clips, before=before)
    # A loss of 0.05 with a standard error of sqrt(0.05 x 0.95 / 200) = 0.0154.
    assert (low, high) == pytest.approx((-0.08, -0.02), abs=0.01)
    alone = bootstrap_interval(right, clips)
    assert high - low < alone[1] - alone[0]


def test_equal_answers_have_no_change_and_one_clip_says_nothing() -> None:
    assert bootstrap_interval([True, False], ["a", "b"], before=[True, False]) == (0.0, 0.0)
    assert bootstrap_interval([True], ["a"], before=[False]) == (-1.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_turning_a_change_round_turns_its_interval_round(answers: list[tuple[bool, bool, int]]) -> None:
    right, before, clips = zip(*[(own, old, str(clip)) for own, old, clip in answers], strict=True)
    low, high = bootstrap_interval(right, clips, before=before, num_draws=101)
    assert bootstrap_interval(before, clips, before=right, num_draws=101) == pytest.approx((-high, -low), abs=1e-9)
    assert -1 <= low <= high <= 1


def test_questions_are_pooled_and_not_averaged_by_clip() -> None:
    # One clip with one question, right, and one with three, wrong: drawn once each they make 1/4, not 1/2.
    right, clips = [True, False, False, False], ["a", "b", "b", "b"]
    assert bootstrap_interval(right, clips, level=0.4) == (0.25, 0.25)
    assert bootstrap_interval(right, clips, before=[False] * 4, level=0.4) == (0.25, 0.25)
    assert bootstrap_interval([*right, True], [*clips, "b"], level=0.4) == (0.4, 0.4)


@pytest.mark.parametrize(("level", "errors"), [(0.5, 0.674), (0.8, 1.282), (0.95, 1.96)])
def test_the_level_is_the_share_of_draws_inside(level: float, errors: float) -> None:
    right = [number % 4 == 0 for number in range(1600)]
    clips = [str(number) for number in range(1600)]
    half = errors * (0.25 * 0.75 / 1600) ** 0.5
    for low, high in (
        bootstrap_interval(right, clips, level=level, num_draws=4000),
        bootstrap_interval(right, clips, before=[False] * 1600, level=level, num_draws=4000),
    ):
        assert low == pytest.approx(0.25 - half, abs=half / 12)
        assert high == pytest.approx(0.25 + half, abs=half / 12)
    if level == 0.95:
        assert bootstrap_interval(right, clips, num_draws=4000) == bootstrap_interval(
            right, clips, level=level, num_draws=4000
        )


def test_the_seed_chooses_the_draws() -> None:
    right = [number % 3 == 0 for number in range(60)]
    clips = [str(number // 2) for number in range(60)]
    for interval in (
        lambda seed: bootstrap_interval(right, clips, seed=seed, num_draws=50),
        lambda seed: bootstrap_interval(right, clips, before=[False] * 60, seed=seed, num_draws=50),
    ):
        assert len({interval(seed) for seed in range(4)}) > 1
        assert interval(3) == interval(3)
    assert bootstrap_interval(right, clips) == bootstrap_interval(right, clips, seed=0)


@pytest.mark.parametrize("num_draws", [1, 99, 100, 101, 250])
def test_as_many_draws_are_made_as_asked_for(num_draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    quantile = np.quantile
    monkeypatch.setattr(np, "quantile", lambda drawn, at: found.append(len(drawn)) or quantile(drawn, at))
    bootstrap_interval([True, False], ["a", "b"], num_draws=num_draws)
    bootstrap_interval([True, False], ["a", "b"], before=[False, False], num_draws=num_draws)
    bootstrap_interval([True, False], ["a", "b"])
    assert found == [num_draws, num_draws, 1000]


def test_answers_and_clips_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        bootstrap_interval([True, False], ["a"])
    with pytest.raises(ValueError, match="zip"):
        bootstrap_interval([True, False], ["a", "b"], before=[True])
