"""Two parts of a data file, told apart by a reference model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crema_analysis.difficulty import Difficulty, refuse_own_parts, split_by_difficulty, write_parts
from crema_core.data.data_file import Record, read_data_file
from crema_core.errors import OptionsError
from crema_core.evaluation.run import evaluate
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_data, write_records


def test_easy_is_what_the_major_modality_alone_answers_right(
    new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, records = new_model(), write_records(tmp_path / "data", 9)
    asked: list[set[str]] = []

    own = model.prompt

    def prompt(tokens, questions, **_):  # type: ignore[no-untyped-def]
        asked.append(set(tokens))
        return own(tokens, questions)

    monkeypatch.setattr(model, "prompt", prompt)
    monkeypatch.setattr(model, "generate", lambda prompt, **_: ["red"] * len(prompt.mask))
    found = split_by_difficulty(model, records)
    assert asked == [{"main"}]
    assert list(found.easy) == [record for record in records if record.answer == "red"]
    assert list(found.hard) == [record for record in records if record.answer != "red"]
    assert found.modalities == ("main",)
    assert sum(found.counts["all"]) == 9
    whole = evaluate(model, records, modalities=["main"])
    assert {kind: easy / (easy + hard) for kind, (easy, hard) in found.counts.items()} == {
        **whole.by_type,
        "all": whole.accuracy,
    }


def test_equal_ids_with_and_without_choices_are_told_apart(
    new_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = new_model()
    one, two, three = (replace(own, id="same", answer="red") for own in write_records(tmp_path / "data", 3))
    two = replace(two, choices=("red", "blue"))
    monkeypatch.setattr(model, "score_choices", lambda prompt, choices: [[1.0, 0.0]] * len(choices))
    monkeypatch.setattr(model, "generate", lambda prompt, **_: ["red", "blue"])
    found = split_by_difficulty(model, [one, two, three], modalities=[])
    assert (found.easy, found.hard) == ((one, two), (three,))
    monkeypatch.setattr(model, "score_choices", lambda prompt, choices: [[0.0, 0.0]] * len(choices))
    tied = split_by_difficulty(model, [one, two, three], modalities=[])
    assert (tied.easy, tied.hard) == ((one,), (two, three))  # a tie is no right answer


def test_the_parts_are_data_files_that_name_the_same_media(new_model: MakeModel, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 6)
    records = read_data_file(data, modalities=new_model().names)
    found = Difficulty(tuple(records[::2]), tuple(records[1::2]), ("main",))
    easy, hard = write_parts(tmp_path / "some" / "parts", data, found)
    for place, part in ((easy, found.easy), (hard, found.hard)):
        again = [replace(own, line=0, sources={k: str(Path(v).resolve()) for k, v in own.sources.items()})
                 for own in read_data_file(place, modalities=new_model().names)]  # fmt: skip
        assert again == [replace(own, line=0) for own in part]
    assert json.loads((easy.parent / "split.json").read_text())["questions"]["all"] == {"easy": 3, "hard": 3}


def test_other_keys_lists_parts_of_clips_and_absolute_paths_are_kept(tmp_path: Path) -> None:
    line = {"id": 7, "question": "?", "answer": "x", "choices": None, "main": "a/b.mp4#t=1,2", "wave": ["c", "/d"]}
    (tmp_path / "a").mkdir()
    for name in ("a/b.mp4", "c"):  # no installed modality reads these keys, so they are paths where there is a file
        (tmp_path / name).write_text("x")
    data = tmp_path / "data.jsonl"
    data.write_text("\n" + json.dumps(line | {"radar": None}) + "\n")
    record = Record("7", "?", "x", {}, line=2)
    easy, _ = write_parts(tmp_path / "parts", data, Difficulty((record,), (), ()))
    assert json.loads(easy.read_text()) == {**line, "main": "../a/b.mp4#t=1,2", "wave": ["../c", "/d"], "radar": None}


def test_the_table_has_a_share_by_type() -> None:
    records = [Record(str(i), "?", "x", {}, type="color" if i else "") for i in range(3)]
    assert str(Difficulty(tuple(records[:2]), tuple(records[2:]), ())).splitlines() == [
        "easy: answered right with the question alone",
        "",
        "questions  easy  hard  share easy",
        "color      1     1     50.0%",
        "all        2     1     66.7%",
    ]


def test_data_are_never_replaced_by_a_part_of_themselves(tmp_path: Path) -> None:
    data = tmp_path / "easy.jsonl"
    data.write_text("{}\n")
    with pytest.raises(OptionsError) as error:
        write_parts(tmp_path, data, Difficulty((), (), ()))
    assert str(error.value) == (
        f"'{data}' would be replaced by a part of itself. Parts are written as easy.jsonl and hard.jsonl. Name another "
        "folder with --out. Nothing was changed."
    )
    assert data.read_text() == "{}\n"


def test_a_link_in_a_circle_is_no_part_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "out")
    refuse_own_parts(tmp_path / "out", tmp_path / "data.jsonl")
    (tmp_path / "easy.jsonl").touch()
    with pytest.raises(OptionsError, match="would be replaced by a part of itself"):
        refuse_own_parts(tmp_path, tmp_path / "easy.jsonl")
