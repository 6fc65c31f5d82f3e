"""Intervals that are meant for few questions and few clips too."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_core.evaluation.intervals import (
    accuracy_interval,
    change_interval,
    effective_questions,
    student_quantile,
)

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=40)
DRAWS = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0])


def clips_of(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_all_wrong_and_all_right_have_a_width() -> None:
    # Wilson: z^2 / (n + z^2) with z = 1.95996.
    for count, far in ((2, 0.6576), (3, 0.5615), (10, 0.2775), (100, 0.0370)):
        assert accuracy_interval([False] * count, clips_of(count)) == (0.0, pytest.approx(far, abs=1e-4))
        assert accuracy_interval([True] * count, clips_of(count)) == (pytest.approx(1 - far, abs=1e-4), 1.0)


def test_published_numbers_of_independent_questions_are_met() -> None:
    # Newcombe 1998, table I: Wilson's method without continuity correction.
    for right, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        found = accuracy_interval([number < right for number in range(count)], clips_of(count))
        assert found == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_questions_about_one_clip_count_as_fewer() -> None:
    right = [number % 10 == 0 for number in range(100)]
    alone = accuracy_interval(right, clips_of(100))
    together = accuracy_interval(sorted(right), [str(number // 10) for number in range(100)])
    assert together == accuracy_interval([True] + [False] * 9, clips_of(10))  # a clip is all right or all wrong
    assert alone == (pytest.approx(0.0552, abs=1e-4), pytest.approx(0.1744, abs=1e-4))


def test_as_many_questions_count_as_clips_show_and_never_more_than_there_are() -> None:
    spread = [number % 2 == 0 for number in range(40)]  # every clip has half of its four questions right
    clips = [str(number // 4) for number in range(40)]
    assert effective_questions(spread, clips) == pytest.approx(40 * (1.95996 / 2.26216) ** 2, rel=1e-4)
    assert effective_questions(spread, clips_of(40)) == pytest.approx(40)
    assert effective_questions([True] * 40, clips) == 10  # nothing shows that a clip's questions differ
    assert effective_questions([True] * 6, list("aaaabc")) == 2  # 6^2 / (16 + 1 + 1)
    assert effective_questions([True] * 6, ["a"] * 6) is None


def test_one_clip_says_nothing_about_others() -> None:
    for right in ([True], [True, True], [True, False]):
        clips = ["a"] * len(right)
        assert accuracy_interval(right, clips) == (0.0, 1.0)
        assert change_interval(right, right, clips) == (-1.0, 1.0)


@pytest.mark.slow
@settings(max_examples=40)
@given(ANSWERS)
def test_an_accuracy_lies_inside_an_interval_with_a_width(answers: list[tuple[bool, bool, int]]) -> None:
    right, _, clips = zip(*[(own, old, str(clip)) for own, old, clip in answers], strict=True)
    low, high = accuracy_interval(right, clips)
    share = sum(right) / len(right)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 1 / (len(right) + 4)
    mirrored = accuracy_interval([not own for own in right], clips)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@settings(max_examples=40)
@given(st.lists(st.tuples(DRAWS, DRAWS, st.integers(0, 6)), min_size=1, max_size=30))
def test_a_change_lies_inside_an_interval_with_a_width(answers: list[tuple[float, float, int]]) -> None:
    right, before, clips = zip(*[(own, old, str(clip)) for own, old, clip in answers], strict=True)
    low, high = change_interval(right, before, clips)
    change = sum(own - old for own, old in zip(right, before, strict=True)) / len(right)
    assert -1 <= low <= change + 1e-12
    assert change - 1e-12 <= high <= 1
    assert high - low > 1 / (len(right) + 4)
    assert change_interval(before, right, clips) == pytest.approx((-high, -low), abs=1e-9)


def test_an_interval_contains_the_true_accuracy_about_as_often_as_it_says() -> None:
    """Exact: every number of right answers with its probability, no draws."""
    for count in (2, 5, 10, 40):
        ends = [
            accuracy_interval([number < right for number in range(count)], clips_of(count))
            for right in range(count + 1)
        ]
        covered = []
        for true in np.linspace(0.02, 0.98, 97):
            chances = [math.comb(count, k) * true**k * (1 - true) ** (count - k) for k in range(count + 1)]
            covered.append(sum(own for own, (low, high) in zip(chances, ends, strict=True) if low <= true <= high))
        assert float(np.mean(covered)) > 0.94, count
        assert min(covered) > 0.82, count  # Brown, Cai and DasGupta 2001: where it dips at rare answers


@pytest.mark.parametrize(("num_clips", "similar"), [(4, 1.0), (4, 0.3), (12, 1.0), (12, 0.3), (12, 0.0)])
def test_clips_whose_questions_are_alike_are_covered_too(num_clips: int, similar: float) -> None:
    generator, size, true = np.random.default_rng(0), 6, 0.6
    clips, covered = [str(number // size) for number in range(num_clips * size)], 0
    for _ in range(60):
        whole = generator.random(num_clips) < true
        own = generator.random((num_clips, size)) < true
        right = np.where(generator.random((num_clips, size)) < similar**0.5, whole[:, None], own)
        low, high = accuracy_interval(right.ravel().tolist(), clips)
        covered += low <= true <= high
    assert covered >= 53  # 57 of 60 are expected


def test_a_change_is_that_of_pairs() -> None:
    # Half of the questions are right in both situations, one in twenty is lost: pairs vary less than either does.
    before = [number % 2 == 0 for number in range(200)]
    right = [own and number % 20 != 0 for number, own in enumerate(before)]
    low, high = change_interval(right, before, clips_of(200))
    # Bonett and Price: (0 + 1) / 202 and (10 + 1) / 202.
    gained, lost = 1 / 202, 11 / 202
    half = 1.95996 * math.sqrt((gained + lost - (gained - lost) ** 2) / 202)
    assert (low, high) == pytest.approx((gained - lost - half, gained - lost + half), abs=1e-4)
    alone = accuracy_interval(right, clips_of(200))
    assert high - low < alone[1] - alone[0]


def test_few_questions_prove_no_change_and_equal_answers_have_a_width() -> None:
    for count, proven in ((2, False), (3, False), (4, True), (10, True)):
        low, high = change_interval([False] * count, [True] * count, clips_of(count))
        assert (low, high < 0) == (-1.0, proven)
    low, high = change_interval([True, False], [True, False], ["a", "b"])
    assert low == -high == pytest.approx(-0.693, abs=1e-3)
    # Four questions about two clips are no four clips.
    assert change_interval([False] * 4, [True] * 4, list("aabb"))[1] > 0


def test_questions_are_pooled_and_not_averaged_by_clip() -> None:
    right, clips = [True, False, False, False, True], list("abbbc")
    low, high = accuracy_interval(right, clips, level=0.01)
    assert (low + high) / 2 == pytest.approx(2 / 5, abs=0.005)


@pytest.mark.parametrize(("level", "errors"), [(0.5, 0.674), (0.8, 1.282), (0.95, 1.96)])
def test_the_level_is_the_share_of_intervals_that_hold(level: float, errors: float) -> None:
    right, clips = [number % 4 == 0 for number in range(1600)], clips_of(1600)
    half = errors * (0.25 * 0.75 / 1600) ** 0.5
    for low, high in (
        accuracy_interval(right, clips, level=level),
        change_interval(right, [False] * 1600, clips, level=level),
    ):
        assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=half / 12)


def test_quantiles_of_student_are_those_of_the_tables() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980, 10**6: 1.960}
    for degrees, quantile in table.items():
        assert student_quantile(0.95, degrees) == pytest.approx(quantile, abs=1e-3)
    assert student_quantile(0.8, 7) == pytest.approx(1.415, abs=1e-3)
    falling = [student_quantile(0.95, degrees) for degrees in (1, 2, 5, 50, 999, 1000)]
    assert all(former > later for former, later in itertools.pairwise(falling))


def test_the_order_of_answers_does_not_matter() -> None:
    right, clips = [True, False, True, True, False], list("abbca")
    turned = accuracy_interval(right[::-1], clips[::-1])
    assert accuracy_interval(right, clips) == pytest.approx(turned, abs=1e-12)


def test_answers_and_clips_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        accuracy_interval([True, False], ["a"])
    with pytest.raises(ValueError, match="zip"):
        change_interval([True, False], [True], ["a", "b"])
