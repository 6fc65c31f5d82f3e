import json
import os
from pathlib import Path

import pytest

from crema_core.data import data_file
from crema_core.data.check import (
    Balance,
    Finding,
    Shared,
    _lines_of_repeated,
    check_data_file,
    check_shared,
    numbers,
)
from crema_core.data.data_file import Record


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_file, "installed_names", lambda: ("radar", "sonar"))


def write(folder: Path, lines: list[dict[str, object]]) -> Path:
    (folder / "a.bin").write_text("x")
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_fine_file_has_counts_and_no_findings(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"id": i, "question": f"{i}?", "answer": "x", "type": "t" if i else "u", "radar": "a.bin"} for i in range(3)
    ]
    report = check_data_file(write(tmp_path, lines))
    assert (report.num_samples, report.modalities, report.types, report.findings) == (
        3,
        {"radar": 3},
        {"u": 1, "t": 2},
        (),
    )


def test_everything_wrong_is_found(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            {"id": "a", "question": "?", "answer": "x", "radar": "a.bin"},
            {"id": "a", "question": " ", "answer": "x", "radar": "b.bin"},
            {"id": "b", "question": "?", "answer": "", "radar": "a.bin"},
            {"id": "c", "question": "?", "answer": ""},
            {"id": "d", "question": "?", "answer": "x", "rader": "a.bin"},
            {"id": "e", "question": "what?", "answer": "x", "sonar": "a.bin", "radar": "a.bin", "rador": 1, "eeg": 1},
        ],
    )
    report = check_data_file(path, modalities=["radar"])
    assert report.unused == ("sonar",)
    assert [(own.name, own.num_lines, own.line) for own in report.ignored] == [
        ("eeg", 1, 6),
        ("rador", 1, 6),
        ("sonar", 1, 6),
    ]
    assert report.findings == (
        Finding("line", "Line 5 cannot be used: unknown key 'rader'. Did you mean 'radar'?", (5,)),
        Finding(
            "key",
            "A key is neither a field nor an installed modality, and is ignored: 'rador' (line 6; did you mean "
            "'radar'?).",
            (6,),
        ),
        Finding("missing", "1 of 5 samples has a missing file, first: b.bin (line 2 of train.jsonl).", (2,)),
        Finding("duplicate", "The id 'a' is used on lines 1, 2.", (1, 2)),
        Finding("duplicate", "1 question is asked more than once about the same sources, first: lines 1, 3.", (1, 3)),
        Finding("empty", "1 sample has an empty question, first: line 2.", (2,)),
        Finding("empty", "2 samples have an empty answer, first: line 3.", (3, 4)),
        Finding("senseless", "1 sample has no source at all, first: line 4.", (4,)),
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_found_for_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.bin")
    path = write(tmp_path, [{"id": "a", "question": "?", "answer": "x", "radar": "p.bin"}])
    text = (
        "1 of 1 samples has a file that cannot be opened, first: p.bin is a pipe, not a file (line 1 of train.jsonl)."
    )
    assert Finding("blocked", text, (1,)) in check_data_file(path, modalities=["radar"]).findings


def test_answers_that_are_nearly_always_the_same_are_found(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"id": i, "question": f"{i}?", "answer": "no" if i < 2 else "yes", "type": "t", "radar": "a.bin"}
        for i in range(20)
    ]
    report = check_data_file(write(tmp_path, lines))
    assert report.balance == (Balance("t", 20, 2, "yes", 0.9),)
    assert report.findings == (
        Finding("balance", "90% of 20 questions of type 't' have the answer 'yes'.", tuple(range(3, 21))),
    )


def test_of_multiple_choice_the_place_of_the_answer_counts(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"id": i, "question": "?", "answer": f"b{i}", "choices": [f"a{i}", f"b{i}"], "radar": "a.bin"} for i in range(3)
    ]
    assert check_data_file(write(tmp_path, lines)).balance == (Balance("", 3, 1, "Option 2", 1.0),)


def test_what_two_splits_share_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_text("y")
    train = write(tmp_path, [{"id": "a", "question": "?", "answer": "x", "radar": "a.bin#t=0,1"}])
    valid = train.rename(tmp_path / "valid.jsonl")
    train = write(
        tmp_path,
        [
            {"id": "z", "question": "?", "answer": "x", "radar": "b.bin"},
            {"id": "a", "question": "?", "answer": "x", "radar": "a.bin"},
        ],
    )
    lines = {str(train): (2,), str(valid): (1,)}
    assert check_shared([train, valid]) == (
        Shared("source", f"1 source is used by both train.jsonl and valid.jsonl, first: {tmp_path / 'a.bin'}.", lines),
    )
    assert check_shared([train]) == ()


def test_an_id_in_two_splits_counts_where_there_is_no_file_to_compare(tmp_path: Path) -> None:
    files = []
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        line = {"id": "a", "question": "?", "answer": split}
        files.append(write(tmp_path / split, [{**line, "radar": "a.bin"}, {**line, "id": "b"}]))
    assert check_shared(files) == (
        Shared("id", f"1 id is in both {files[0]} and {files[1]}, first: 'b'.", {str(file): (2,) for file in files}),
    )


def test_files_that_cannot_be_read_are_found_without_reading_any(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "frames").mkdir()
    sources = ["a.mp4", "empty.mp4#t=1,2", "notes.txt", "frames", "gone.mp4", "notes.txt"]
    lines = [{"id": i, "question": f"{i}?", "answer": "x", "video": own} for i, own in enumerate(sources)]
    found = check_data_file(write(tmp_path, lines), modalities=["video"]).findings
    assert [(own.kind, own.lines) for own in found] == [("missing", (5,)), ("empty", (2,)), ("ending", (3, 6))]
    assert found[2].text.startswith(
        "2 of 6 samples have a file that its modality does not read, first: notes.txt ends in '.txt', which 'video' "
        "does not read (.3g2, .3gp, .apng, "
    )


def test_equal_choices_are_found(tmp_path: Path) -> None:
    line = {"id": 1, "question": "?", "answer": "red", "choices": ["red", "blue", "red"]}
    found, _ = check_data_file(write(tmp_path, [line])).findings
    assert (found.kind, found.text) == ("duplicate", "1 sample has equal choices, first: line 1 ('red').")


def test_a_thousand_line_numbers_are_not_written_out(tmp_path: Path) -> None:
    lines = [{"id": "same", "question": "?", "answer": str(i % 2)} for i in range(1000)]
    for own in check_data_file(write(tmp_path, lines)).findings:
        assert len(own.text) < 120
    assert numbers([1, 2, 4, 5, 6, 9], most=2) == "1, 2, 4-6 and 1 more"


def test_what_is_repeated_is_not_told_by_its_hash_alone() -> None:
    assert hash(-1) == hash(-2)
    keys = {1: -1, 2: -2, 3: "b", 4: -2, 5: "b", 6: "c"}
    records = [Record("a", "?", "x", {}, line=line) for line in keys]
    assert list(_lines_of_repeated(records, lambda own: keys[own.line]).items()) == [(-2, [2, 4]), ("b", [3, 5])]
    assert _lines_of_repeated(records[:2], lambda own: keys[own.line]) == {}
