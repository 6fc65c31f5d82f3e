"""How data sets are asked and judged, and how the papers' tables group their questions."""

from __future__ import annotations

import pytest

from crema_core.data.data_file import Record
from crema_core.datasets.prepare import find_dataset
from crema_core.evaluation.breakdown import breakdown
from crema_core.evaluation.judge import Judge
from crema_core.evaluation.predictions import Prediction
from crema_core.model.template import PromptTemplate
from crema_core.train.settings import train_settings


def record(dataset: str, **more: tuple[str, ...]) -> Record:
    return Record("1", "What?", "desk", {}, dataset=dataset, **more)  # type: ignore[arg-type]


def test_situated_questions_are_judged_by_the_normalised_answer() -> None:
    own = record("sqa3d")
    judge = Judge([own])
    assert (judge.scorers([own]), judge.measures) == (("em",), ("em_refined",))
    assert judge.is_right(own, "the desk")


def test_further_accepted_answers_of_scanqa_count() -> None:
    own = record("scanqa", answers=("brown table",))
    assert Judge([own], measures=()).is_right(own, "A brown table.")


def test_answers_outside_the_vocabulary_of_sounds_are_reported() -> None:
    own = record("vggsound")
    judge = Judge([own])
    assert (judge.scorers([own]), judge.measures) == (("exact",), ("in_vocabulary",))


@pytest.mark.parametrize(
    ("name", "question", "asked"),
    [
        ("sqa3d", "I sit. Question: What?", "I sit. Question: What? Based on the frames and 3D Model information"),
        ("music-avqa", "What?", "Question: What? Based on the frames and audio information"),
    ],
)
def test_wordings_name_what_is_seen_and_heard(name: str, question: str, asked: str) -> None:
    template = Judge([record(name)]).templates(PromptTemplate())[name]
    assert template.render(question) == f"{asked}, answer the question using a single word or phrase."


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (
            "audiocaps-qa",
            "Question: What? Based on the audio information, answer the question using a single word or phrase.",
        ),
        ("three-d-llm", "Question: What? Based on 3D Model information, answer the question."),
    ],
)
def test_an_adapter_alone_is_asked_without_frames(name: str, asked: str) -> None:
    assert Judge([record(name)]).templates(PromptTemplate())[name].render("What?") == asked


@pytest.mark.parametrize(
    ("name", "kind", "column"),
    [
        ("nextqa", "CW", "Causal"),
        ("nextqa", "CH", "Causal"),
        ("nextqa", "TN", "Temporal"),
        ("nextqa", "DO", "Descriptive"),
        ("music-avqa", "Audio/Counting", "Audio"),
    ],
)
def test_types_are_pooled_as_in_the_papers_tables(name: str, kind: str, column: str) -> None:
    answered = [Prediction("1", kind, "?", "x", "x", True, (), 1, clip="1")]
    assert [row.name for row in breakdown(answered, columns=find_dataset(name).columns)] == [kind, column, "all"]


def test_a_run_of_the_paper_is_a_training_too() -> None:
    settings = train_settings("nextqa-vfdn", {"batch_size": 4})
    assert (settings.lr, settings.batch_size, settings.warmup_steps) == (1e-4, 4, 1000)
