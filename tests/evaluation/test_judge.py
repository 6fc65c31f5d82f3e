"""The data set of a sample decides how it is judged."""

from __future__ import annotations

import pytest

from crema_core.data.data_file import Record
from crema_core.errors import OptionsError
from crema_core.evaluation.judge import Judge
from crema_core.model.template import PromptTemplate
from crema_core.plugins import registry
from tests.support.birds import register_songbirds


@pytest.fixture(autouse=True)
def _songbirds_are_installed() -> None:
    register_songbirds()


def record(dataset: str = "", answer: str = "desk", **more: object) -> Record:
    return Record("1", "What?", answer, {}, dataset=dataset, **more)  # type: ignore[arg-type]


def test_each_data_set_has_its_rule_and_the_rest_the_default() -> None:
    records = [record("songbirds"), record(), record(choices=("desk", "bed"))]
    judge = Judge(records)
    assert [judge.is_right(own, "the desk") for own in records[:2]] == [True, False]
    assert judge.scorers(records) == ("last_word", "exact", "choices")
    assert judge.measures == ("lengths",)


def test_one_rule_for_all_can_be_asked_for() -> None:
    records = [record("songbirds"), record()]
    judge = Judge(records, scorer="last_word", measures=["exact"])
    assert [judge.is_right(own, "brown desk") for own in records] == [True, True]
    assert (judge.scorers(records), judge.measures) == (("last_word",), ("exact",))


def test_further_accepted_answers_count() -> None:
    own = record("songbirds", answers=("brown table",))
    assert Judge([own], measures=()).is_right(own, "A small table.")


def test_a_data_set_that_is_not_installed_is_said_and_judged_by_the_default(caplog: pytest.LogCaptureFixture) -> None:
    judge = Judge([record("songbird")])
    assert judge.scorer(record("songbird")).name == "exact"
    (message,) = caplog.messages
    installed = ", ".join(registry.installed_names("dataset"))
    assert message == (
        f"'songbird' is not an installed data set. Installed: {installed}. Did you mean 'songbirds'? Its answers are "
        "judged by 'exact', and its own measures are left out."
    )


def test_wordings_replace_those_of_the_model_and_keep_its_other_settings() -> None:
    template = PromptTemplate(max_question_tokens=77)
    own = Judge([record("songbirds")]).templates(template)["songbirds"]
    assert own.render("Which?") == "Listen. Which? Name one bird."
    assert own.max_question_tokens == 77


def test_unknown_rules_and_measures_are_refused() -> None:
    for options in ({"scorer": "emm"}, {"measures": ["emm"]}):
        with pytest.raises(OptionsError, match="Did you mean 'em'"):
            Judge([record()], **options)  # type: ignore[arg-type]
