"""One way from encoded questions to answers, for raw sources and for data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.predict import QuestionBatch, best_choice, predict
from crema_core.evaluation.predictions import read_predictions
from crema_core.evaluation.run import evaluate
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.network import CremaNetwork
from tests.support.modalities import wave_spec
from tests.train.file_modalities import file_modalities, write_records


def test_the_best_choice_is_the_first_of_the_highest() -> None:
    assert best_choice([-2.0, -0.5, -0.5]) == 1


@pytest.fixture
def model(t5_folder: Path) -> CremaNetwork:
    return build([wave_spec()], backbone=t5_folder).eval()


def batch_of(model: CremaNetwork, choices: list[tuple[str, ...] | None]) -> QuestionBatch:
    generator = torch.Generator().manual_seed(1)
    sources = [{"wave": model.branch("wave").modality.example(generator)} for _ in choices]
    features = model.encode(prepare_batch(model, sources))
    texts = [model.template.render("what is it?", own) for own in choices]
    return QuestionBatch(texts, choices, features, {"wave": list(range(len(choices)))})


def test_questions_of_both_kinds_in_one_batch_are_answered_as_alone(model: CremaNetwork) -> None:
    mixed = predict(model, batch_of(model, [("a", "b", "c"), None]), max_new_tokens=3)
    chosen, free = mixed
    assert set(chosen.scores) == {"a", "b", "c"}
    assert chosen.scores[chosen.text] == max(chosen.scores.values())
    assert free.scores == {}
    only = predict(model, batch_of(model, [("a", "b", "c"), ("a", "b", "c")]), max_new_tokens=3)[0]
    assert only.text == chosen.text
    assert list(only.scores.values()) == pytest.approx(list(chosen.scores.values()), abs=1e-4)
    assert all(one.num_tokens > 0 for one in mixed)


def test_an_answer_and_an_evaluation_of_the_same_question_agree(t5_folder: Path, tmp_path: Path) -> None:
    model, records = build(file_modalities(), backbone=t5_folder), write_records(tmp_path / "data", 4)
    items = [{"question": own.question, "choices": own.choices, **own.sources} for own in records]
    out = tmp_path / "answers.jsonl"
    evaluate(model, records, out=out, batch_size=2)
    written = {own.id: own.prediction for own in read_predictions(out)}
    assert [own.text for own in model.answer_many(items)] == [written[own.id] for own in records]
