"""One way from encoded questions to answers, for raw sources and for data sets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.api.predict import QuestionBatch, choose, predict
from crema_core.evaluation.predictions import read_predictions
from crema_core.evaluation.run import evaluate
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.network import CremaNetwork
from tests.support.modalities import wave_spec
from tests.train.file_modalities import file_modalities, write_records

NOISE = 2.0**-23


@pytest.mark.parametrize(
    ("scores", "tied"),
    [
        ([-2.0, -0.5, -0.25], ()),
        ([-2.0, -0.5, -0.5], ("b", "c")),
        ([-0.5, -0.5, -0.5], ("a", "b", "c")),
        ([-2.0, -0.5, -0.5 - 8 * NOISE], ("b", "c")),  # rounding near 1
        ([-2.0, -0.5 - 9 * NOISE, -0.5], ()),
        ([-64.0 - 512 * NOISE, -99.0, -64.0], ("a", "c")),  # rounding grows with the score
        ([-64.0 - 513 * NOISE, -99.0, -64.0], ()),
        ([0.0, -math.inf, -math.inf], ()),
        ([-math.inf, -math.inf, -math.inf], ("a", "b", "c")),
        ([-1.0, math.nan, -2.0], ("a", "b", "c")),
        ([math.nan, -1.0, -2.0], ("a", "b", "c")),
    ],
)
def test_scores_that_arithmetic_cannot_tell_apart_tie(scores: list[float], tied: tuple[str, ...]) -> None:
    best = "abc"[scores.index(max(scores))]
    assert choose("abc", scores) == (f"tie: {', '.join(tied)}" if tied else best, tied)


def test_a_choice_given_twice_does_not_tie_with_itself() -> None:
    assert choose(["red", "blue", "red"], [-0.5, -1.0, -0.5]) == ("red", ())
    assert choose(["red", "blue", "red"], [-0.5, -0.5, -0.5]) == ("tie: red, blue", ("red", "blue"))


@pytest.fixture
def tiny() -> CremaModel:
    return build([wave_spec()], backbone="crema-tiny").eval()


def test_choices_with_equal_tokens_tie_and_the_first_one_wins_nothing(tiny: CremaModel) -> None:
    source = tiny.branch("wave").modality.example(torch.Generator().manual_seed(1))
    for choices in (["north", "south"], ["south", "north", "calm"]):
        answer = tiny.answer("which way ?", choices, wave=source)
        assert len(set(answer.scores.values())) == 1
        assert answer.tied == tuple(choices)
        assert answer.text == f"tie: {', '.join(choices)}"
    both = tiny.answer("which way ?", ["north", "left", "south", "right"], wave=source)
    assert both.scores["north"] == both.scores["south"] != both.scores["left"]
    chosen = tiny.answer("which way ?", ["left", "right"], wave=source)
    assert (chosen.tied, chosen.text) == ((), max(chosen.scores, key=chosen.scores.__getitem__))


@pytest.mark.parametrize("scoring", ["likelihood", "letters"])
def test_of_a_choice_given_twice_the_higher_score_is_kept(t5_folder: Path, scoring: str) -> None:
    model = build([wave_spec()], backbone=t5_folder, template={"choice_scoring": scoring}).eval()
    source = model.branch("wave").modality.example(torch.Generator().manual_seed(1))
    for choices in (["red", "red", "blue"], ["blue", "red", "red"]):
        prompt = model.prompt(
            model.tokens(model.encode(prepare_batch(model, [{"wave": source}])), ["what ?"]),
            [model.template.render("what ?", choices)],
        )
        (scores,) = model.score_choices(prompt, [choices])
        answer = model.answer("what ?", choices, wave=source)
        pairs = list(zip(choices, scores, strict=True))
        assert answer.scores == pytest.approx({one: max(s for c, s in pairs if c == one) for one in choices}, abs=1e-5)
        assert answer.text == max(answer.scores, key=answer.scores.__getitem__)


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
