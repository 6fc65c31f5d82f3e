import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.evaluation.score import best_choice, is_exact, normalize, summarize


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
