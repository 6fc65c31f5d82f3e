"""`crema data check`: keys that nothing reads, and answers that a tokenizer cannot tell apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crema_core.cli.main import main

LINE = {"question": "what is it ?", "answer": "red", "video": "a.mp4"}
KNOWN = [
    LINE | {"id": "1"},
    LINE | {"id": "2", "question": "and now ?", "answer": "left", "choices": ["left", "right"]},
]
UNKNOWN = [
    LINE | {"id": "1", "answer": "calm"},
    LINE | {"id": "2", "question": "which way ?", "answer": "north", "choices": ["north", "south"]},
]


def write(folder: Path, *lines: dict[str, Any]) -> str:
    (folder / "a.mp4").write_bytes(b"x")
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_keys_that_nothing_reads_are_counted_and_only_near_names_are_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line | {"eeg": "a.edf", "audio": "a.wav", "meta": {"speaker": 7}} for line in KNOWN]
    words = ["data", "check", write(tmp_path, *lines), "--modalities", "video"]
    assert main(words) == 0
    page = capsys.readouterr().out.splitlines()
    assert "modalities not asked for: 'audio' (2 lines, first: line 1)" in page
    assert "keys that are no field or modality: 'eeg' (2 lines, first: line 1)" in page
    assert page[-1] == "nothing to correct"
    write(tmp_path, *lines, lines[0] | {"id": "3", "question": "?", "vidoe": "b.mp4"})
    assert main([*words, "--json"]) == 3
    facts = json.loads(capsys.readouterr().out)["files"][words[2]]
    assert [(own["name"], own["num_lines"]) for own in facts["ignored"]] == [("audio", 3), ("eeg", 3), ("vidoe", 1)]
    assert facts["findings"] == [
        {
            "kind": "key",
            "text": "A key is neither a field nor an installed modality, and is ignored: 'vidoe' (line 3; did you mean "
            "'video'?).",
            "lines": [3],
        }
    ]


def test_what_the_default_backbone_cannot_tell_apart_is_named_and_is_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, *UNKNOWN)
    assert main(["data", "check", file]) == 0
    page = capsys.readouterr().out
    heading = "with the tokenizer of crema-tiny, the default; name yours with --backbone or --model:\n"
    listed = page.split(heading)[1].splitlines()
    assert [line[:56] for line in listed[:3]] == [
        "- In 1 of 1 free-text samples the answer has words unkno",
        "- In 1 of 1 multiple-choice samples choices have words u",
        "- In 1 of 1 multiple-choice samples choices have equal t",
    ]
    assert listed[-1] == "nothing to correct"
    assert main(["data", "check", write(tmp_path, *KNOWN)]) == 0
    assert "tokenizer" not in capsys.readouterr().out


def test_with_a_backbone_it_is_a_finding(tmp_path: Path, languages: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, *UNKNOWN)
    assert main(["data", "check", file, "--backbone", "crema-tiny", "--json"]) == 3
    facts = json.loads(capsys.readouterr().out)
    assert [own["kind"] for own in facts["files"][file]["findings"]] == ["tokens"] * 3
    assert facts["files"][file]["findings"][2]["text"] == (
        "In 1 of 1 multiple-choice samples choices have equal tokens: 'north' = 'south' (line 2). Their scores tie; a "
        "tie is counted, and not given to the first. Use other words, or a backbone whose tokenizer knows these. Where "
        "choices keep one order, template={'choice_scoring': 'letters'} tells them apart by their place."
    )
    assert (facts["answer_tokens"]["tokenizer"], facts["answer_tokens"]["default"]) == ("crema-tiny", False)
    assert main(["data", "check", file, "--language-model", str(languages("qwen2"))]) == 0  # it spells every word
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to correct"


def test_a_saved_model_names_tokenizer_and_scoring(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, *UNKNOWN)
    assert main(["data", "check", file, "--model", str(trained)]) == 3
    assert "choices have equal tokens: 'north' = 'south' (line 2). Their scores tie" in capsys.readouterr().out
    lettered = Path(shutil.copytree(trained / "model", tmp_path / "lettered"))
    config = json.loads((lettered / "crema.json").read_text())
    config["template"]["choice_scoring"] = "letters"
    (lettered / "crema.json").write_text(json.dumps(config))
    assert main(["data", "check", file, "--model", str(lettered)]) == 3
    page = capsys.readouterr().out
    assert "choices have equal tokens: 'north' = 'south' (line 2). They read the same in the prompt" in page
    assert main(["data", "check", file, "--model", str(trained), "--backbone", "crema-tiny"]) == 1
    assert capsys.readouterr().err == (
        "crema: --model came with --backbone or --language-model. A saved model names its own tokenizer. Leave one "
        "out.\n"
    )


def test_a_place_without_a_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", write(tmp_path, *KNOWN), "--backbone", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith(f"crema: No backbone was found at '{tmp_path / 'absent'}'")


@pytest.mark.slow
def test_an_evaluation_and_an_answer_say_what_tied(
    tmp_path: Path, trained: Path, clips: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from crema_core.model.network import CremaNetwork

    monkeypatch.setattr(
        CremaNetwork, "score_choices", lambda self, prompt, choices: [[-0.5, -0.5, -2.0][: len(own)] for own in choices]
    )
    lines = [json.loads(line) for line in clips.read_text().splitlines()[:4]]
    for line in lines:
        line |= {"choices": ["red", "blue", "left"], "answer": "red"}
        line |= {name: str(clips.parent / line[name]) for name in ("video", "depth") if name in line}
    data = tmp_path / "asked.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["eval", str(trained), str(data)]) == 0
    page = capsys.readouterr().out.splitlines()
    header = next(line for line in page if line.startswith("questions"))
    assert header.split() == ["questions", "number", "accuracy", "95%", "interval", "ties"]
    total = next(line for line in page if line.startswith("all ")).split()
    assert (total[1], total[2], total[-1]) == ("4", "50.0%", "4")
    assert any(line.startswith("4 answers of 4 tied: the best choices have equal scores.") for line in page)
    words = ["answer", str(trained), "what ?", "--video", lines[0]["video"], "--choices", "red", "blue", "left"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[0] == "tie: red, blue"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tied"] == ["red", "blue"]


def test_the_line_of_every_use_of_a_damaged_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, *({"id": i, "question": f"{i}?", "answer": str(i), "video": "a.mp4"} for i in range(30)))
    keep = tmp_path / "read.jsonl"
    assert main(["data", "check", file, "--deep", "--keep", str(keep)]) == 3
    assert capsys.readouterr().out.rstrip().endswith("Lines 1-30.")
    assert len(keep.read_text().splitlines()) == 1
    write(tmp_path, {"id": 1, "question": "?", "answer": "x", "video": "a.mp4"})
    assert main(["data", "check", file, "--deep", "--keep", str(keep)]) == 3
    assert capsys.readouterr().out.rstrip().endswith("Line 1.")


def test_what_belongs_to_reading_is_refused_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, KNOWN[0])
    for more in (["--keep", "read.jsonl"], ["--processes", "2"]):
        assert main(["data", "check", file, *more]) == 1
        assert "Add --deep" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_whose_name_is_no_text_is_checked(tmp_path: Path) -> None:
    file = write(tmp_path, KNOWN[0])
    name = os.fsencode(tmp_path) + b"/\xff.jsonl"
    Path(file).rename(os.fsdecode(name))
    words = [sys.executable, "-m", "crema_core.cli.main", "data", "check", name, "--modalities", "video"]
    done = subprocess.run(words, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "utf-8"}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\udcff.jsonl: 1 sample" in done.stdout


def test_the_line_of_a_finding_is_not_taken_for_what_to_type() -> None:
    from crema_core.cli.data import _lines
    from crema_core.data.check import Finding

    assert _lines(Finding("damaged", "It is damaged.", (3,))) == " Line 3."
    assert _lines(Finding("damaged", "Allow it: export SIZE=1MB", (3,))) == " (line 3)"
    assert _lines(Finding("damaged", "Allow it: export SIZE=1MB", (3, 5))) == " (lines 3, 5)"
    assert _lines(Finding("length", "It is short.", (3,))) == ""
