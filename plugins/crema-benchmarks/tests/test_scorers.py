"""The rules of the papers' data sets, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from crema_benchmarks.clean import clean
from crema_core.evaluation.metric import find_scorer


def verdict(name: str, prediction: str, answers: Sequence[str]) -> bool:
    rule = find_scorer(name).is_right
    assert rule is not None
    return rule(prediction, answers)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (" The  2 chai.", "two chair"),
        ("on the letf side of a desk", "on left side of desk"),
        ("TV", "TV"),
        ("none", "zero"),
        ("23 of an 11 mat2", "twenty-three of eleven mat"),
        ("7 oclock", "seven o'clock"),
        ("7 o' clock", "seven o'clock"),
        ("backwards", "backward"),
        ("let's go", "left's go"),  # the published table does that
        ("black-white, (round)", "black-white, round"),
    ],
)
def test_situated_answers_are_cleaned_as_published(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


RULES = ("exact", "em", "em_refined", "em_refined_published")


@pytest.mark.parametrize(
    ("prediction", "answers", "right"),
    [
        ("The desk.", ("desk",), (False, True, True, True)),
        ("2", ("two",), (True, True, True, True)),
        ("brown desk", ("desk",), (False, False, True, True)),
        ("desk", ("a brown desk", "table"), (False, False, True, True)),
        ("piano", ("no",), (False, False, False, True)),  # the published rule finds "no" in "piano"
        ("stone", ("one",), (False, False, False, True)),
        ("", ("no",), (False, False, False, False)),
        ("left side", ("side left",), (False, False, False, False)),
        ("table", ("desk", "table"), (True, True, True, True)),
    ],
)
def test_rules_for_free_answers_by_hand(prediction: str, answers: tuple[str, ...], right: tuple[bool, ...]) -> None:
    assert tuple(verdict(name, prediction, answers) for name in RULES) == right


@pytest.mark.parametrize(
    ("name", "prediction", "gold", "right"),
    [
        ("crema_sqa3d_published", "the brown Desk\nand", "desk", True),  # last word of the first line
        ("crema_sqa3d_published", "2", "two", True),
        ("crema_sqa3d_published", "", "desk", True),  # an empty prediction is a substring
        ("crema_sqa3d_published", "esk</s>", "desk", True),
        ("crema_sqa3d_published", "brown desk", "large desk", False),
        ("crema_music_avqa_published", "2", "two", True),
        ("crema_music_avqa_published", "a", "guitar", True),
        ("crema_music_avqa_published", "guitar", "a", False),
        ("pave_music_avqa_published", "It is a Piano", "no", True),
        ("pave_music_avqa_published", "no", "piano", False),
    ],
)
def test_published_lenient_rules_are_reproduced(name: str, prediction: str, gold: str, right: bool) -> None:
    assert verdict(name, prediction, (gold,)) is right
