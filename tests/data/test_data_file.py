import json
import logging
import os
import sys
import tracemalloc
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from crema_core.data import data_file
from crema_core.data.data_file import (
    IgnoredKey,
    Record,
    _Compact,
    as_records,
    moved_line,
    read_data_file,
    read_samples,
    scan_data_file,
)
from crema_core.errors import DataFileError

LINE = {"id": "a", "question": "what ?", "answer": "red"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_file, "installed_names", lambda: ("radar", "sonar"))


def write(folder: Path, *lines: dict[str, Any] | str, files: tuple[str, ...] = ()) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    path = folder / "train.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_paths_are_relative_to_the_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, LINE | {"radar": "clips/a.bin", "sonar": ["b.bin", "c.bin"]}, files=("clips/a.bin", "b.bin"))
    (tmp_path / "c.bin").write_text("x")
    monkeypatch.chdir(tmp_path)
    for given in (path, "train.jsonl"):
        assert read_data_file(given) == [
            Record(
                id="a",
                question="what ?",
                answer="red",
                sources={
                    "radar": str(tmp_path / "clips/a.bin"),
                    "sonar": [str(tmp_path / "b.bin"), str(tmp_path / "c.bin")],
                },
                line=1,
            )
        ]


def test_absolute_paths_whole_number_ids_blank_lines_and_nulls_are_fine(tmp_path: Path) -> None:
    source = tmp_path / "elsewhere.bin"
    source.write_text("x")
    line = LINE | {"id": 7, "radar": str(source), "sonar": None, "type": None, "choices": ["red", "blue"]}
    (record,) = read_data_file(write(tmp_path, "", line, "  "))
    assert (record.id, record.line, record.choices, record.type) == ("7", 2, ("red", "blue"), "")
    assert record.sources == {"radar": str(source)}


def test_every_bad_line_is_reported_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        LINE,
        '{"id": 1,',
        "[1, 2]",
        {"id": "b", "answer": "red"},
        LINE | {"rader": "a.bin"},
        LINE | {"radar": 3, "question": 4},
        LINE | {"choices": ["blue", "green"]},
        LINE | {"choices": ["red"]},
        LINE | {"sonar": []},
    )
    with pytest.raises(DataFileError) as error:
        read_data_file(path)
    assert str(error.value) == "\n".join(
        [
            "8 of 9 lines of train.jsonl cannot be used:",
            "- line 2: not JSON (Expecting property name enclosed in double quotes at column 10)",
            "- line 3: list instead of an object in braces",
            "- line 4: no 'question'",
            "- line 5: unknown key 'rader'. Did you mean 'radar'?",
            "- line 6: 'question' is 4, not a text",
            "- line 6: 'radar' is 3, not a path or a list of paths",
            "- line 7: the answer 'red' is none of the choices",
            "- line 8: 'choices' is [\"red\"], not a list of at least two texts",
            "- line 9: 'sonar' is [], not a path or a list of paths",
            "Keys: id, question, answer, choices, type, answers, dataset and meta (id, question and answer are "
            "required) and a path for each modality; installed modalities: radar, sonar. Correct these lines.",
        ]
    )


@pytest.mark.parametrize("wrong", [True, 1.5, ["a"], {}])
def test_an_id_is_a_text_or_a_whole_number(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(DataFileError, match=r"'id' is .*, not a text or a whole number"):
        read_data_file(write(tmp_path, LINE | {"id": wrong}))


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as error:
        read_data_file(write(tmp_path, *["nonsense"] * 25))
    lines = str(error.value).splitlines()
    assert len(lines) == 23
    assert lines[-2] == "- and 5 more"


def test_samples_with_unusable_files_are_all_named(tmp_path: Path) -> None:
    lines = [LINE | {"radar": "a.bin"}, LINE | {"radar": "clips/b.bin", "sonar": "d.bin"}, LINE | {"radar": "c.bin"}]
    path = write(tmp_path, *lines, files=("a.bin",))
    (tmp_path / "c.bin").touch()
    with pytest.raises(DataFileError) as error:
        read_data_file(path)
    assert str(error.value).splitlines() == [
        "2 of 3 samples of train.jsonl cannot be used: 1 with a missing file, 1 with an empty file.",
        "- train.jsonl line 2, radar: clips/b.bin does not exist",
        "- train.jsonl line 3, radar: c.bin is empty (0 bytes)",
        'Fix the files or their paths, or pass on_error="skip" to leave these samples out.',
    ]


def test_where_no_file_is_missing_what_is_in_them_is_left_to_their_readers(tmp_path: Path) -> None:
    path = write(tmp_path, LINE | {"radar": "a.bin"})
    (tmp_path / "a.bin").touch()
    assert [record.paths("radar") for record in read_data_file(path)] == [(str(tmp_path / "a.bin"),)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_called_missing(tmp_path: Path) -> None:
    path = write(tmp_path, LINE | {"radar": "a.bin"})
    os.mkfifo(tmp_path / "a.bin")
    for read in (read_data_file, lambda own: as_records([LINE | {"radar": str(own.parent / "a.bin")}])):
        with pytest.raises(DataFileError) as error:
            read(path)
        lines = str(error.value).splitlines()
        assert lines[0].endswith("cannot be used: 1 with a file that cannot be opened.")
        assert lines[1].endswith("a.bin is a pipe, not a file")


def test_of_many_unusable_samples_the_first_twenty_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, *[LINE | {"radar": f"{number}.bin"} for number in range(25)])
    with pytest.raises(DataFileError) as error:
        read_data_file(path)
    lines = str(error.value).splitlines()
    assert lines[0] == "25 of 25 samples of train.jsonl cannot be used: 25 with a missing file."
    assert lines[20:22] == ["- train.jsonl line 20, radar: 19.bin does not exist", "- and 5 more"]


def test_samples_with_unusable_files_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, LINE | {"radar": "a.bin"}, LINE | {"radar": "b.bin"}, files=("a.bin",))
    assert [record.line for record in read_data_file(path, on_error="skip", max_skipped=0.5)] == [1]
    assert caplog.messages == [
        "1 of 2 samples of train.jsonl cannot be used: 1 with a missing file. They are left out."
    ]


def test_leaving_out_more_than_a_share_of_the_samples_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, LINE | {"radar": "a.bin"}, LINE | {"radar": "b.bin"}, files=("a.bin",))
    with pytest.raises(DataFileError) as error:
        read_data_file(path, on_error="skip")
    assert str(error.value).splitlines() == [
        "1 of 2 samples of train.jsonl cannot be used: 1 with a missing file.",
        "- train.jsonl line 2, radar: b.bin does not exist",
        "That is 50.0% of the samples, and at most max_skipped=0.1 of them may be left out. Fix the files or their "
        "paths, or pass max_skipped=0.5 to leave out as many.",
    ]


def test_leaving_out_every_sample_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as error:
        read_data_file(write(tmp_path, LINE | {"radar": "a.bin"}), on_error="skip", max_skipped=1.0)
    assert str(error.value).splitlines()[-1] == "No sample is left. Fix the files or their paths."


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (LINE | {"question": "bell \ud83d?"}, "question"),
        (LINE | {"id": "\udc00"}, "id"),
        (LINE | {"answer": "red \udfff"}, "answer"),
        (LINE | {"choices": ["red", "\ud800"]}, "choices"),
        (LINE | {"answers": ["\ud800"]}, "answers"),
        (LINE | {"type": "\ud83d"}, "type"),
        (LINE | {"radar": "a\udcff.bin"}, "radar"),
        (LINE | {"sonar": ["a.bin", "a\udcff.bin"]}, "sonar"),
        (LINE | {"meta": {"note": ["\ud83d"]}}, "meta"),
        (LINE | {"own": "\ud83d"}, "own"),
        (LINE | {"\ud83d": 3}, "\\ud83d"),
    ],
)
def test_half_a_character_is_refused_with_its_line(tmp_path: Path, line: dict[str, Any], key: str) -> None:
    with pytest.raises(DataFileError, match="1 of 2 lines") as error:
        read_data_file(write(tmp_path, LINE | {"question": "bell \U0001f514?"}, line))
    assert f'- line 2: "{key}" holds \\ud' in str(error.value)
    str(error.value).encode()  # the message itself can be written
    with pytest.raises(DataFileError, match="record 1"):
        as_records([line])


def test_modalities_the_model_lacks_are_ignored_with_one_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = LINE | {"radar": "a.bin", "sonar": "absent.bin"}
    path = write(tmp_path, line, line, files=("a.bin",))
    with caplog.at_level(logging.WARNING):
        records = read_data_file(path, modalities=["radar"])
    assert [set(record.sources) for record in records] == [{"radar"}, {"radar"}]
    assert caplog.messages == [
        "train.jsonl has sources of modalities that are not asked for: 'sonar' (2 lines, first: line 1). They are "
        "ignored."
    ]
    caplog.clear()
    read_samples(path, modalities=["radar"], specs={})
    assert caplog.messages == [
        "train.jsonl has sources of modalities that this model does not have: 'sonar' (2 lines, first: line 1). They "
        "are ignored. Name them in build(modalities=[...]) to use them."
    ]


def test_a_modality_given_to_build_without_being_installed_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, LINE | {"lidar": "a.bin"}, files=("a.bin",))
    assert list(read_data_file(path, modalities=["lidar"])[0].sources) == ["lidar"]


def test_an_absent_file_a_folder_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "no.jsonl", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(DataFileError) as error:
            read_data_file(path)
        assert str(error.value) == (
            f"The data file '{path}' {what}. A data file is JSONL, one object per line. Check the path."
        )
    with pytest.raises(DataFileError) as error:
        read_data_file(write(tmp_path))
    assert str(error.value) == (
        "train.jsonl holds no samples. A data file has one JSON object per line, with at least id, question and "
        "answer. Write one line per question."
    )


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"ab\xff\xfe")
    with pytest.raises(DataFileError) as error:
        read_data_file(path)
    assert str(error.value) == (
        f"The data file '{path}' is not UTF-8 text (line 1, byte 2). A data file is JSONL, one object per line. Save "
        "it as UTF-8."
    )


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    line = json.dumps(LINE | {"question": "what\u2028now ?"}, ensure_ascii=False)
    (record,) = read_data_file(write(tmp_path, line))
    assert record.question == "what\u2028now ?"


def test_a_file_stays_usable_when_the_package_of_a_modality_is_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [LINE | {"radar": "a.bin", "eeg": "s1.edf"} for _ in range(3)]
    path = write(tmp_path, *lines, LINE | {"radar": "a.bin", "speaker": 7}, files=("a.bin",))
    for wanted in (None, ["radar"]):
        caplog.clear()
        records = read_data_file(path, modalities=wanted)
        assert [set(record.sources) for record in records] == [{"radar"}] * 4
        assert caplog.messages == [
            "train.jsonl has keys that are neither a field nor an installed modality, and are ignored: 'eeg' (3 lines, "
            "first: line 1), 'speaker' (line 4). Install the package of a modality, correct a misspelt name, or put "
            "keys of your own into 'meta'."
        ]


def test_a_slip_of_the_pen_is_named_with_what_was_meant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [LINE | {"radar": "a.bin", "sonra": "b.bin"}, LINE | {"radar": "a.bin", "tpye": "color"}]
    scan = scan_data_file(write(tmp_path, *lines, files=("a.bin",)))
    assert scan.problems == []
    assert scan.ignored == (
        IgnoredKey("sonra", 1, 1, False, "sonar"),
        IgnoredKey("tpye", 1, 2, False, "type"),
    )
    read_data_file(tmp_path / "train.jsonl")
    assert "'sonra' (line 1; did you mean 'sonar'?), 'tpye' (line 2; did you mean 'type'?). Install" in caplog.text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            {"id": "a", "quesiton": "what ?", "answer": "red"},
            "no 'question', but an unknown key 'quesiton'. Did you mean 'question'?",
        ),
        (
            {"id": "a", "question": "what ?", "anwser": "red"},
            "no 'answer', but an unknown key 'anwser'. Did you mean 'answer'?",
        ),
        (LINE | {"rader": "a.bin"}, "unknown key 'rader'. Did you mean 'radar'?"),
        (LINE | {"rader": ["a.bin"], "radar": None, "sonar": "b.bin"}, "unknown key 'rader'. Did you mean 'radar'?"),
        (LINE | {"radar": "a.bin", "choises": ["red", "blue"]}, "unknown key 'choises'. Did you mean 'choices'?"),
    ],
)
def test_a_slip_of_the_pen_is_an_error_where_its_line_lacks_something(
    tmp_path: Path, line: dict[str, Any], problem: str
) -> None:
    (found,) = scan_data_file(write(tmp_path, line), modalities=["radar"]).problems
    assert found.sentence == problem


@pytest.mark.parametrize(
    "more",
    [
        {"radar": "a.bin", "choice": "B"},  # no list of texts with the answer
        {"radar": "a.bin", "choises": ["yes", "no"]},
        {"radar": "a.bin", "choices": ["red", "blue"], "choises": ["red", "blue"]},
        {"radar": "a.bin", "raders": "b.bin"},
        {"raders": 3},  # no path
        {"comment": "a.bin"},  # near nothing
    ],
)
def test_keys_of_ones_own_are_no_slip_of_the_pen(tmp_path: Path, more: dict[str, Any]) -> None:
    assert scan_data_file(write(tmp_path, LINE | more)).problems == []


def test_what_is_not_asked_for_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path, LINE | {"radar": "a.bin", "sonar": {"rate": 3}, "eeg": [1, 2]})
    assert scan_data_file(path, modalities=["radar"]).problems == []
    (found,) = scan_data_file(path).problems
    assert found.text == "'sonar' is {\"rate\": 3}, not a path or a list of paths"


def test_ones_own_keys_have_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, LINE | {"radar": "a.bin", "meta": {"speaker": 7}}, files=("a.bin",))
    assert len(read_data_file(path)) == 1
    assert caplog.messages == []
    (found,) = scan_data_file(write(tmp_path, LINE | {"meta": "x"})).problems
    assert found.text == "'meta' is \"x\", not an object in braces"


def test_samples_given_as_mappings_follow_the_rules_of_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = LINE | {"radar": "a.bin", "eeg": "b.edf"}
    from_file = read_data_file(write(tmp_path, line, line, files=("a.bin",)))
    own = Record("r", "what ?", "red", {"radar": "elsewhere.bin"})
    monkeypatch.chdir(tmp_path)
    caplog.clear()
    assert as_records([line, line | {"radar": Path("a.bin")}, own]) == [*from_file, own]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("The data has keys that are neither a field nor an installed modality")
    with pytest.raises(DataFileError) as error:
        as_records([line, {"id": "a", "quesiton": "what ?", "answer": "red"}, "radar"])  # type: ignore[list-item]
    assert str(error.value).splitlines()[:3] == [
        "2 of 3 records cannot be used:",
        "- record 2: no 'question', but an unknown key 'quesiton'. Did you mean 'question'?",
        "- record 3: str instead of a record or a mapping with the keys of a line",
    ]
    with pytest.raises(DataFileError) as error:
        as_records([line, line | {"radar": "absent.bin"}])
    assert str(error.value).splitlines() == [
        "1 of 2 samples cannot be used: 1 with a missing file.",
        f"- record 2, radar: {tmp_path}/absent.bin does not exist",
        'Fix the files or their paths, or pass on_error="skip" to leave these samples out.',
    ]
    assert [own.line for own in as_records([line, line | {"radar": "x"}], on_error="skip", max_skipped=0.5)] == [1]


def test_a_line_moves_to_another_folder_with_its_paths_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "s.edf").write_text("x")
    line = LINE | {
        "radar": ["x.bin", "x.bin#t=1,2"],
        "sonar": "/y.bin",
        "eeg": "s.edf#t=1,2",
        "note": "by hand",
        "number": 3,
        "meta": {"from": "s.edf"},
    }
    moved = moved_line(line, tmp_path / "a", tmp_path / "b")
    paths = {"radar": ["../a/x.bin", "../a/x.bin#t=1,2"], "eeg": "../a/s.edf#t=1,2"}
    assert moved == line | paths
    assert moved_line(line, tmp_path / "a", tmp_path / "a") == line


def test_sources_are_written_as_pathlib_writes_them(tmp_path: Path) -> None:
    pieces = ("a", "/", ".", "..", "./", "#t=1,2", " ", "\n")
    sources = ["".join(own) for length in range(1, 4) for own in product(pieces, repeat=length)]
    path = write(tmp_path, *(LINE | {"radar": own, "sonar": [own]} for own in sources))
    for folder in (path, Path("/") / path.name):
        compact = _Compact(frozenset(("radar", "sonar")), folder.parent)
        for own in sources:
            record = compact.record(LINE | {"radar": own, "sonar": [own]}, line=1)
            expected = str(folder.parent / own)
            assert record.sources == {"radar": expected, "sonar": [expected]}, own
    assert len(scan_data_file(path).records) == len(sources)


def test_what_lines_have_in_common_is_in_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = LINE | {"choices": ["red", "blue"], "type": "colour", "answers": ["Red"], "radar": "a.bin", "sonar": "a.bin"}
    lines = [line | {"id": number} for number in range(3)]
    first, *others = scan_data_file(write(tmp_path, *lines)).records
    for own in others:
        assert own.answer is first.answer
        assert own.type is first.type
        assert own.choices is first.choices
        assert own.answers is first.answers
        assert own.sources["radar"] is first.sources["sonar"]
        assert own.sources is not first.sources  # a record's own to change
    # What is remembered is bounded, and nothing else than memory depends on it.
    compact = _Compact(frozenset(("radar",)), tmp_path)
    monkeypatch.setattr(data_file, "MAX_REMEMBERED", 4)
    various = [
        LINE | {"id": str(number), "answer": f"{number % 7}", "radar": f"{number % 5}.bin"} for number in range(70)
    ]
    made = [compact.record(own, line=number) for number, own in enumerate(various, start=1)]
    assert [(own.answer, own.sources["radar"]) for own in made] == [
        (f"{number % 7}", str(tmp_path / f"{number % 5}.bin")) for number in range(70)
    ]
    assert max(map(len, (compact._texts, compact._paths, compact._choices))) <= 4


def test_a_line_costs_little_more_than_its_own_texts(tmp_path: Path) -> None:
    shared = {"type": "sound", "answer": "drum", "choices": ["drum", "harp"], "radar": "clips/a.bin", "sonar": "b.bin"}
    lines = [shared | {"id": f"{number:06}", "question": f"which one is number {number:06} ?"} for number in range(400)]
    path = write(tmp_path, *lines)
    scan_data_file(path)
    tracemalloc.start()
    try:
        records = scan_data_file(path).records
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    own_texts = sum(sys.getsizeof(own.id) + sys.getsizeof(own.question) for own in records)
    # The slots of a record, its number, its place in the list, and a dict of two; 1,000 before with its lines' objects.
    assert held - own_texts < 450 * len(records)
    assert peak - held < 150_000  # a line and what is remembered, not the file, which has 60,000 bytes
