"""Ties: counted wherever accuracies are, each worth what a draw among its choices is, whatever their order."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record
from crema_core.evaluation.breakdown import Row, breakdown
from crema_core.evaluation.predictions import Prediction, PredictionFile, read_predictions
from crema_core.evaluation.run import evaluate
from tests.train.conftest import MakeModel
from tests.train.file_modalities import file_modalities, write_records


@pytest.fixture(scope="module")
def tiny() -> CremaModel:
    """It knows red and left, and neither north nor south."""
    return build(file_modalities(num=1), backbone="crema-tiny")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return write_records(tmp_path_factory.mktemp("data"), 6, modalities="m")


def asking(records: list[Record], *choices: str, answers: str) -> list[Record]:
    """Return the records with other choices; `answers` has the place of the right one, digit by digit."""
    return [
        replace(own, choices=choices, answer=choices[int(place)]) for own, place in zip(records, answers, strict=True)
    ]


@pytest.mark.parametrize("order", [("north", "south"), ("south", "north")])
def test_choices_of_equal_tokens_are_not_given_to_the_first(
    tiny: CremaModel, records: list[Record], order: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    result = evaluate(tiny, asking(records, *order, answers="000001"), out=out)
    assert (result.accuracy, result.num_ties) == (0.5, 6)  # 83.3% are the first choice, and nothing chose it
    assert {row.name: row.ties for row in result.table} == {"color": 3, "side": 3, "all": 6}
    assert result.by_type == {"color": 0.5, "side": 0.5}
    assert result.metrics["ties"] == 6
    for line in map(json.loads, out.read_text().splitlines()):
        assert (line["prediction"], line["correct"]) == (f"tie: {', '.join(order)}", False)
        assert line["tied"] == list(order)
    assert {own.credit for own in read_predictions(out)} == {0.5}


def test_a_draw_among_three_is_worth_a_third_and_none_where_the_answer_is_not_among_them(
    tiny: CremaModel, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    three = asking(records, "north", "south", "calm", answers="012012")
    assert evaluate(tiny, three).accuracy == pytest.approx(1 / 3)
    monkeypatch.setattr(tiny, "score_choices", lambda prompt, choices: [[-1.0, -0.5, -0.5]] * len(choices))
    asked = asking(records, "red", "blue", "left", answers="001122")
    result = evaluate(tiny, asked)
    assert (result.accuracy, result.num_ties) == (pytest.approx(4 / 6 / 2), 6)


def test_without_ties_nothing_but_zero_is_reported(
    tiny: CremaModel, records: list[Record], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.jsonl"
    with caplog.at_level(logging.WARNING):
        result = evaluate(tiny, asking(records, "red", "left", answers="000001"), out=out)
    assert caplog.messages == []
    assert (result.num_ties, result.metrics["ties"]) == (0, 0)
    predictions = read_predictions(out)
    assert {own.tied for own in predictions} == {()}
    assert result.accuracy == sum(own.correct for own in predictions) / 6
    assert "ties" not in evaluate(tiny, records).metrics  # of free answers there are none


def test_a_choice_written_like_a_tie_is_not_right_where_others_tie(
    tiny: CremaModel, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "score_choices", lambda prompt, choices: [[-0.5, -0.5, -2.0]] * len(choices))
    out: list[Prediction] = []
    monkeypatch.setattr(PredictionFile, "add", lambda self, prediction: out.append(prediction))
    result = evaluate(tiny, asking(records, "red", "blue", "tie: red, blue", answers="222222"))
    assert result.accuracy == 0.0
    assert {(own.prediction, own.correct) for own in out} == {("tie: red, blue", False)}


def test_a_choice_given_twice_is_right_either_time(
    tiny: CremaModel, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "score_choices", lambda prompt, choices: [[-0.5, -2.0, -0.5]] * len(choices))
    result = evaluate(tiny, asking(records, "red", "blue", "red", answers="222222"))
    assert (result.accuracy, result.num_ties) == (1.0, 0)


def test_an_evaluation_begins_with_what_cannot_be_told_apart(
    tiny: CremaModel, records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    asked = [*asking(records[:3], "north", "south", answers="000"), *records[3:]]
    with caplog.at_level(logging.WARNING):
        evaluate(tiny, asked)
        evaluate(tiny, asked, announce=False)
    (message,) = caplog.messages
    first, unknown, equal, advice = message.splitlines()
    assert first == "The data: after tokenization not all answers can be told apart."
    assert "In 3 of 3 multiple-choice samples choices have words unknown to the tokenizer" in unknown
    assert "In 3 of 3 multiple-choice samples choices have equal tokens: 'north' = 'south' (line 1)" in equal
    assert advice.startswith("Use other words, or a backbone whose tokenizer knows these.")


def test_letters_tie_where_the_model_gives_them_one_score(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, records = new_model(), write_records(tmp_path / "data", 3)
    monkeypatch.setattr(model.language, "letter_scores", lambda prompt, count: prompt.embeds.new_zeros(3, count))
    result = evaluate(model, asking(records, "red", "blue", answers="000"))
    assert (result.accuracy, result.num_ties) == (0.5, 3)


def answered(kind: str, *, answer: str, tied: tuple[str, ...] = (), correct: bool = False) -> Prediction:
    return Prediction(answer, kind, "?", answer, "", correct, (), 1, clip=answer, chosen=True, tied=tied)


def test_a_table_counts_ties_by_type_and_their_shares() -> None:
    rows = breakdown(
        [
            answered("way", answer="a", tied=("a", "b")),
            answered("way", answer="c", tied=("a", "b")),
            answered("way", answer="b", correct=True),
            answered("color", answer="d"),
        ],
        average_types=True,
    )
    assert [(row.name, row.accuracy, row.ties) for row in rows] == [
        ("color", 0.0, 0),
        ("way", 0.5, 2),
        ("all", 0.375, 2),
        ("mean of types", 0.25, 2),
    ]
    assert Row("all", 0.5, 2, 0.0, 1.0).ties == 0


def test_predictions_written_before_ties_were_counted_are_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    old = answered("way", answer="a", correct=True)
    with PredictionFile(path, {}) as file:
        file.add(old)
        file.add(answered("way", answer="a", tied=("a", "b")))
    first, second = map(json.loads, path.read_text().splitlines())
    assert second["tied"] == ["a", "b"]
    path.write_text(json.dumps({key: value for key, value in first.items() if key != "tied"}) + "\n")
    assert read_predictions(path) == [old]
