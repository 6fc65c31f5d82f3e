from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.errors import OptionsError
from crema_core.evaluation.clean import clean
from crema_core.evaluation.score import best_choice, find_scorer, is_exact, normalize, summarize
from crema_core.plugins import registry


def verdict(name: str, prediction: str, answers: Sequence[str]) -> bool:
    rule = find_scorer(name).is_right
    assert rule is not None
    return rule(prediction, answers)


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("A drum.", "a drum", True),
        ("two", "2", True),
        ("  The\tRED  box ", "the red box", True),
        ("ｃｌａｒｉｎｅｔ", "clarinet", True),
        ("left-hand", "left hand", True),
        ("guitar", "a guitar", False),
        ("a", "guitar", False),  # a substring is not an answer
        ("", "guitar", False),
        ("twofold", "2fold", False),
    ],
)
def test_answers_are_equal_after_normalisation(prediction: str, answer: str, right: bool) -> None:
    assert is_exact(prediction, answer) is right


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


def test_the_best_choice_is_the_first_of_the_highest() -> None:
    assert best_choice([-2.0, -0.5, -0.5]) == 1


def test_accuracy_is_split_by_type() -> None:
    scores = summarize([("b", True), ("a", False), ("b", False), ("", True)])
    assert scores == (0.5, {"a": 0.0, "b": 0.5}, {"a": 1, "b": 2})


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


@given(st.text(), st.text())
def test_the_default_never_finds_an_answer_inside_another(prediction: str, answer: str) -> None:
    assert verdict("exact", prediction, (answer,)) == (normalize(prediction) == normalize(answer))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(OptionsError) as error:
        find_scorer("exakt")
    assert str(error.value) == (
        f"'exakt' is not an installed metric. Installed: {', '.join(registry.installed_names('metric'))}. Did you mean "
        "'exact'?"
    )


def test_a_measure_of_whole_data_sets_judges_no_single_answer() -> None:
    with pytest.raises(OptionsError) as error:
        find_scorer("captions")
    assert str(error.value) == (
        "'captions' (BLEU-4, ROUGE-L and CIDEr) measures a data set as a whole and cannot judge single answers. "
        "Accepted as scorer: a metric with a rule for them, such as 'exact'. Name it among the measures instead."
    )
