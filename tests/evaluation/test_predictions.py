"""Predictions on disk, and continuing them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from crema_core.data.data_file import Record
from crema_core.errors import CheckpointError, WriteError
from crema_core.evaluation.predictions import Prediction, PredictionFile, records_digest
from crema_core.evaluation.run import evaluate
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_records

ONE = Prediction("a", "t", "?", "x", "y", False, ("main",), 3, "m", "", ("x",), False)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with PredictionFile(path, {"data": "1"}) as file:
        file.add(ONE)
    again = PredictionFile(path, {"data": "1"}, resume=True)
    assert again.done == [ONE]


def test_without_resume_the_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with PredictionFile(path, {}) as file:
        file.add(ONE)
    assert PredictionFile(path, {}).done == []
    assert path.read_text() == ""


@pytest.mark.parametrize("identity", [None, "{}", '{"data": "other"}'])
def test_an_empty_file_begins_anew_whatever_stands_beside_it(tmp_path: Path, identity: str | None) -> None:
    path = tmp_path / "p.jsonl"
    path.touch()
    if identity is not None:
        (tmp_path / "p.jsonl.run.json").write_text(identity)
    with PredictionFile(path, {"data": "1"}, resume=True) as file:
        file.add(ONE)
    assert PredictionFile(path, {"data": "1"}, resume=True).done == [ONE]


def test_a_pipe_gets_predictions_line_by_line_and_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with PredictionFile(path, {}) as file:
        file.add(ONE)
        assert json.loads(os.read(reader, 10_000))["id"] == "a"
    os.close(reader)
    assert [own.name for own in tmp_path.iterdir()] == ["pipe"]


def test_a_device_gets_predictions_and_stays_one() -> None:
    with PredictionFile(Path(os.devnull), {}, resume=True) as file:
        file.add(ONE)
    assert Path(os.devnull).is_char_device()
    assert not Path(f"{os.devnull}.run.json").exists()


def test_predictions_that_cannot_be_written_are_a_message() -> None:
    full = pytest.raises(WriteError, match="'/dev/full' cannot be written: the disk is full")
    with full, PredictionFile(Path("/dev/full"), {}) as file:
        file.add(ONE)


def test_of_equal_ids_as_many_are_left_as_are_missing() -> None:
    file = PredictionFile(None, {})
    file.done = [ONE, replace(ONE, id="b")]
    records = [Record(name, "?", "x", {}, line=line) for line, name in enumerate("aabc", start=1)]
    assert [(record.id, record.line) for record in file.left(records)] == [("a", 2), ("c", 4)]


def test_another_evaluation_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with PredictionFile(path, {"data": "1", "modalities": ["main"]}) as file:
        file.add(ONE)
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as error:
        PredictionFile(path, {"data": "1", "modalities": ["main", "wave"]}, resume=True)
    assert str(error.value) == (
        '\'p.jsonl\' was written by another evaluation (modalities: ["main"] -> ["main", "wave"]). Only the same one '
        "can be continued. Name another file, or leave --resume out to begin anew. Nothing was changed."
    )
    assert path.read_bytes() == before


def test_a_file_without_its_companion_and_a_foreign_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("{}\n")
    with pytest.raises(CheckpointError) as error:
        PredictionFile(path, {}, resume=True)
    assert str(error.value) == (
        "'p.jsonl' cannot be continued: 'p.jsonl.run.json', which states what its answers depend on, cannot be read. "
        "Name another file, or leave --resume out to begin anew. Nothing was changed."
    )
    (tmp_path / "p.jsonl.run.json").write_text("{}")
    with pytest.raises(CheckpointError) as error:
        PredictionFile(path, {}, resume=True)
    assert str(error.value) == (
        "Line 1 of 'p.jsonl' is no prediction. A line is a JSON object as this evaluation writes it. Correct or remove "
        "the line. Nothing was changed."
    )


def test_the_digest_follows_answers_and_sources() -> None:
    own = Record("a", "?", "x", {"main": "m"})
    others = [replace(own, answers=("y",)), replace(own, sources={"main": "n"}), replace(own, question="!")]
    assert len({records_digest([one]) for one in (own, *others)}) == 4


@pytest.mark.slow
def test_an_interrupted_evaluation_asks_only_what_is_left(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 5)
    out = tmp_path / "p.jsonl"
    whole = evaluate(model, records, batch_size=2, out=out)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:10])
    asked: list[int] = []
    generate = model.generate

    def count(prompt, **options):  # type: ignore[no-untyped-def]
        asked.append(len(prompt.mask))
        return generate(prompt, **options)

    monkeypatch.setattr(model, "generate", count)
    again = evaluate(model, records, batch_size=2, out=out, resume=True)
    assert asked == [2]
    assert replace(again, duration_s=0.0) == replace(whole, duration_s=0.0)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [record.id for record in records]
    other = new_model()
    next(iter(other.trainable_parameters().values())).data.add_(1.0)
    with pytest.raises(CheckpointError, match=r"was written by another evaluation \(model: "):
        evaluate(other, records, out=out, resume=True)
