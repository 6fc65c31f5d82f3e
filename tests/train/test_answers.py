"""What a training says of its answers: those it cannot tell apart at the start, ties at every validation."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.errors import DataFileError, TrainingError
from crema_core.plugins.hooks import Hooks
from crema_core.report.run_report import write_run_report
from crema_core.train.fit import fit
from tests.train.file_modalities import file_modalities, write_data


@pytest.fixture(scope="module")
def tiny() -> CremaModel:
    """It knows red and left, and neither north nor south."""
    return build(file_modalities(num=1), backbone="crema-tiny")


def lines_of(folder: Path, num_samples: int, **more: Any) -> list[dict[str, Any]]:
    """Write sources, and return lines about them with absolute paths."""
    data_file = write_data(folder, num_samples, modalities="m", answers=("red", "left"))
    lines = [json.loads(line) for line in data_file.read_text().splitlines()]
    return [{**line, "main": str(folder / line["main"]), **more} for line in lines]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train(model: CremaModel, data: Any, out: Path, said: io.StringIO | None = None, **options: Any) -> Any:
    status = StatusLine(said, enabled=said is not None)
    return fit(model, data, out=out, epochs=1, batch_size=2, status=status, hooks=Hooks(strict=True), **options)


def test_a_training_begins_with_what_cannot_be_told_apart_and_counts_the_ties_of_validation(
    tiny: CremaModel, tmp_path: Path
) -> None:
    train_file = write(tmp_path / "train.jsonl", lines_of(tmp_path / "a", 2, answer="north"))
    valid = lines_of(tmp_path / "b", 3, answer="south", choices=["north", "south"])
    said = io.StringIO()
    run = train(tiny, train_file, tmp_path / "run", said, eval_data=write(tmp_path / "valid.jsonl", valid))
    text = said.getvalue()
    for name, what in (
        ("train.jsonl", "In 2 of 2 free-text samples the answer has words unknown to the tokenizer: 'north' (line 1)."),
        ("valid.jsonl", "In 3 of 3 multiple-choice samples choices have words unknown to the tokenizer: 'north', 'sou"),
    ):
        assert text.count(f"{name}: after tokenization not all answers can be told apart.\n- {what}") == 1
    assert "epoch 1: validation accuracy 50.0% (3 ties, each counted as a draw)" in text
    (found,) = [line for line in run.metrics if line["kind"] == "valid"]
    assert (found["ties"], found["accuracy"], run.best_score) == (3, 0.5, 0.5)
    html = write_run_report(run.path, title="Run").read_text(encoding="utf-8")
    assert "<th>ties</th>" in html
    assert "<td>50.0%</td><td>3</td>" in html.split("<h2>Validation</h2>")[1]
    assert "it counts as a draw among them" in html


def test_a_training_whose_answers_are_told_apart_says_nothing_of_them(tiny: CremaModel, tmp_path: Path) -> None:
    lines, said = lines_of(tmp_path / "a", 2), io.StringIO()
    valid = [line | {"choices": ["red", "left"]} for line in lines]
    run = train(tiny, write(tmp_path / "train.jsonl", lines), tmp_path / "run", said, eval_data=valid)
    assert "told apart" not in said.getvalue()
    assert "ties" not in said.getvalue()
    assert [line["ties"] for line in run.metrics if line["kind"] == "valid"] == [0]
    assert "<th>ties</th>" not in write_run_report(run.path, title="Run").read_text(encoding="utf-8")


def test_lines_of_modalities_that_are_not_installed_are_trained_on_what_was_asked_for(
    tiny: CremaModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = lines_of(tmp_path / "a", 2, eeg="absent.edf", meta={"speaker": 7})
    runs = [train(tiny, write(tmp_path / "t.jsonl", lines), tmp_path / "1"), train(tiny, lines, tmp_path / "2")]
    assert [run.num_steps for run in runs] == [1, 1]
    assert [message.split(": ")[0] for message in caplog.messages] == [
        f"{name} has keys that are neither a field nor an installed modality, and are ignored"
        for name in ("t.jsonl", "The data")
    ]
    assert all("'eeg' (2 lines, first: line 1)" in message for message in caplog.messages)
    digests = {json.loads((run.path / "config.json").read_text())["data"] for run in runs}
    assert len(digests) == 1  # mappings are read as lines are


def test_a_slip_of_the_pen_stops_a_training_before_it_starts(tiny: CremaModel, tmp_path: Path) -> None:
    question, mian = lines_of(tmp_path / "a", 2), lines_of(tmp_path / "a", 2)
    question[1]["quesiton"] = question[1].pop("question")
    mian[0]["mian"] = mian[0].pop("main")
    for data, problem in (
        (question, "- record 2: no 'question', but an unknown key 'quesiton'. Did you mean 'question'?"),
        (mian, "- record 1: unknown key 'mian'. Did you mean 'main'?"),
    ):
        with pytest.raises(DataFileError) as error:
            train(tiny, data, tmp_path / "run")
        assert problem in str(error.value).splitlines()
    for line in mian:  # another source takes the place of the one that is written wrong
        line |= {"mian": "x.npy"}
        line.pop("main", None)
    with pytest.raises((DataFileError, TrainingError)):
        train(tiny, mian, tmp_path / "run")
    assert not (tmp_path / "run").exists()
