"""What may be asked: texts that cannot be written, choices that cannot be told apart, and very long questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.api.predict import choose
from crema_core.cli.main import main
from crema_core.errors import DataFileError, OptionsError, OutOfMemoryError
from crema_core.evaluation.run import evaluate
from crema_core.model import memory
from crema_core.train.fit import fit
from tests.support.official_datasets import write_clip

CLIP = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
MANY = [f"c{number}" for number in range(30)]


@pytest.fixture(scope="module")
def letters() -> CremaModel:
    return build(["video"], backbone="crema-tiny", template={"choice_scoring": "letters"})


@pytest.fixture(scope="module")
def likelihood() -> CremaModel:
    return build(["video"], backbone="crema-tiny", template={"choice_scoring": "likelihood"})


def write(folder: Path, **values: Any) -> Path:
    write_clip(folder / "a.mp4", num_frames=2)
    line = {"id": "1", "question": "which ?", "answer": "c29", "video": "a.mp4", **values}
    path = folder / "data.jsonl"
    path.write_text(json.dumps({**line, "id": "0", "choices": ["c29", "c1"]}) + "\n" + json.dumps(line) + "\n")
    return path


@pytest.mark.parametrize("work", [fit, evaluate])
def test_more_choices_than_letters_are_refused_when_the_data_are_read(
    letters: CremaModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataFileError) as error:
        work(letters, write(tmp_path, choices=MANY))
    assert str(error.value).startswith(
        "1 of 2 samples of data.jsonl have more choices than there are letters: line 2 (30). choice_scoring='letters' "
        "tells 26 choices apart. "
    )
    assert not (tmp_path / "runs").exists()


def test_more_choices_than_letters_are_scored_by_their_own_texts(likelihood: CremaModel, tmp_path: Path) -> None:
    assert evaluate(likelihood, write(tmp_path, choices=MANY)).num_samples == 2
    assert len(likelihood.answer("which ?", choices=MANY, video=CLIP).choice_scores) == 30


def test_a_template_refuses_more_choices_than_letters(letters: CremaModel) -> None:
    for call in (letters.template.render, letters.template.target):
        with pytest.raises(DataFileError, match="A question has 30 choices"):
            call("c29", MANY)
    assert letters.template.target("c25", MANY[:26]) == "Option Z"
    assert "Option Z: c25" in letters.template.render("which ?", MANY[:26])


@pytest.mark.parametrize(
    ("question", "choices", "told"),
    [
        ("which ?", MANY, "30 choices came, and choice_scoring='letters' tells 26 apart"),
        ("bell \ud83d?", None, "\\ud83d, one half of a character"),
        ("which ?", ["red", "\udcff"], "\\udcff, one half of a character"),
        ("which ?", "red", "not a list of at least two texts"),
        ("which ?", ["red"], "not a list of at least two texts"),
        ("which ?", ["red", 3], "not a list of at least two texts"),
        (7, None, "The question is int, not a text"),
    ],
)
def test_what_cannot_be_asked_is_refused(letters: CremaModel, question: Any, choices: Any, told: str) -> None:
    with pytest.raises(OptionsError) as error:
        letters.answer(question, choices=choices, video=CLIP)
    assert told in str(error.value)
    str(error.value).encode()


def test_every_score_of_equal_choices_is_kept(letters: CremaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[-0.5, -3.0, -1.5]]
    monkeypatch.setattr(letters, "score_choices", lambda prompt, choices: rows)
    answer = letters.answer("which ?", choices=["red", "red", "blue"], video=CLIP)
    assert (answer.text, answer.scores) == ("red", {"red": -0.5, "blue": -1.5})
    assert answer.choice_scores == (-0.5, -3.0, -1.5)
    assert choose(["red", "blue", "red"], [-0.5, -0.5, -0.5]) == ("tie: red, blue", ("red", "blue"))


@pytest.mark.slow
def test_a_question_that_cannot_fit_into_memory_is_refused_and_the_advice_works(
    letters: CremaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = " ".join(["what"] * 5000)
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**8)
    with pytest.raises(OutOfMemoryError) as error:
        letters.answer(question, video=CLIP)
    assert "A prompt of 5,0" in str(error.value)
    assert "0.1 GB are free" in str(error.value)
    cut = build(["video"], backbone="crema-tiny", template={"max_question_tokens": 2048})
    assert cut.answer(question, video=CLIP).num_tokens < 2200


def test_free_memory_is_that_of_this_machine() -> None:
    assert 2**24 < memory.free_bytes() < 2**50


def test_half_characters_on_the_command_line_are_refused(
    letters: CremaModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters.save_pretrained(tmp_path / "model")
    write_clip(tmp_path / "a.mp4", num_frames=2)
    words = ["answer", str(tmp_path / "model"), "bell \udcf0?", "--video", str(tmp_path / "a.mp4")]
    assert main(words) == 1
    assert "one half of a character" in capsys.readouterr().err
