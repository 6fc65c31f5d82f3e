"""The data set of a sample decides how it is judged."""

from __future__ import annotations

import pytest

from crema_core.data.data_file import Record
from crema_core.errors import OptionsError
from crema_core.evaluation.judge import Judge
from crema_core.model.template import PromptTemplate


def record(dataset: str = "", answer: str = "desk", **more: object) -> Record:
    return Record("1", "What?", answer, {}, dataset=dataset, **more)  # type: ignore[arg-type]


def test_each_data_set_has_its_rule_and_the_rest_the_default() -> None:
    records = [record("sqa3d"), record(), record(choices=("desk", "bed"))]
    judge = Judge(records)
    assert [judge.is_right(own, "the desk") for own in records[:2]] == [True, False]
    assert judge.scorers(records) == ("em", "exact", "choices")
    assert judge.measures == ("em_refined",)


def test_one_rule_for_all_can_be_asked_for() -> None:
    records = [record("sqa3d"), record()]
    judge = Judge(records, scorer="em_refined", measures=["exact"])
    assert [judge.is_right(own, "brown desk") for own in records] == [True, True]
    assert (judge.scorers(records), judge.measures) == (("em_refined",), ("exact",))


def test_further_accepted_answers_count() -> None:
    own = record("scanqa", answers=("brown table",))
    assert Judge([own], measures=()).is_right(own, "A brown table.")


def test_a_data_set_that_is_not_installed_is_said_and_judged_by_the_default(caplog: pytest.LogCaptureFixture) -> None:
    judge = Judge([record("sqa4d")])
    assert judge.scorer(record("sqa4d")).name == "exact"
    (message,) = caplog.messages
    assert message.startswith("'sqa4d' is not an installed data set. Installed: activitynet-qa, ")
    assert message.endswith(
        " Did you mean 'sqa3d'? Its answers are judged by 'exact', and its own measures are left out."
    )


def test_wordings_replace_those_of_the_model_and_keep_its_other_settings() -> None:
    template = PromptTemplate(max_question_tokens=77)
    own = Judge([record("sqa3d")]).templates(template)["sqa3d"]
    assert own.render("I sit. Question: What?") == (
        "I sit. Question: What? Based on the frames and 3D Model information, answer the question using a single word "
        "or phrase."
    )
    assert own.max_question_tokens == 77


def test_unknown_rules_and_measures_are_refused() -> None:
    for options in ({"scorer": "emm"}, {"measures": ["emm"]}):
        with pytest.raises(OptionsError, match="Did you mean 'em'"):
            Judge([record()], **options)  # type: ignore[arg-type]
