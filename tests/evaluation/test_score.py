from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.errors import OptionsError
from crema_core.evaluation.metric import Metric, find_scorer, measure, require_measures
from crema_core.evaluation.score import EXACT, normalize
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
    assert EXACT.is_right is not None
    assert EXACT.is_right(prediction, ["another", answer]) is right


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


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


def test_a_measure_of_somebody_else_is_computed_beside_the_others() -> None:
    pairs = [("a dog barks", ("dog barking", "a dog barks")), ("cat", ("cat meowing",)), ("drums", ("drum",))]
    words = Metric("words", "mean number of words", compute=lambda pairs: {"words": len(pairs[0][0].split())})
    registry.register(words, kind="metric")
    require_measures(["words"])
    assert measure(["words", "exact"], pairs) == {"words": 3, "exact": 1 / 3}


def test_a_metric_measures_something() -> None:
    with pytest.raises(ValueError, match="neither is_right nor compute"):
        Metric("nothing", "measures nothing")
