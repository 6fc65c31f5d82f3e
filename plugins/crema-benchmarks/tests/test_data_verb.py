"""`crema data`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.main import main
from tests.support import official_datasets as official


def test_list_names_every_data_set_with_its_modalities(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "splits", "modalities", "package", "summary"]
    (nextqa,) = [line for line in lines if line.startswith("nextqa ")]
    assert nextqa.split()[1:9] == ["train", "val", "test", "video", "flow", "depth", "normals", "crema-benchmarks"]


def test_list_as_json_has_layout_licence_and_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    facts = {own["name"]: own for own in json.loads(capsys.readouterr().out)}
    assert len(facts) == 26
    own = facts["nextqa"]
    assert own["files"][0] == {"path": "dataset/nextqa/{split}.csv", "split": None}
    assert own["media"][0]["path"] == "NExTVideo/<folder>.mp4"
    assert own["license"].startswith("annotations MIT")
    assert "{options}" in own["wording"]["multiple_choice"]


def test_prepare_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official.touchqa(tmp_path)
    out = str(tmp_path / "touch.jsonl")
    assert main(["data", "prepare", "touchqa", "--root", str(tmp_path), "--split", "val", "--out", out]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"1 question with video, touch: {out}",
        "note: The part of a recording is found with the frame rate of video.mp4, for both sensors.",
    ]
    # Both recordings of the made-up data are the same pictures, which the deep check must notice.
    assert main(["data", "check", out, "--modalities", "video", "--deep"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 1 sample (video 1)",
        "",
        "questions     number  answers  most frequent answer  share",
        "without type  1       1        wood                  100.0%",
        "",
        "modalities not asked for: 'touch' (line 1)",
        "",
        "nothing to correct",
    ]
    assert main(["data", "check", out, "--deep", "--json"]) == 3
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"][out]["findings"] == [
        {"kind": "duplicate", "text": "The same content is in gelsight.mp4 and video.mp4.", "lines": [1]}
    ]


def test_check_of_two_files_says_what_they_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official.avqa(tmp_path)
    base = ["data", "prepare", "avqa", "--root", str(tmp_path), "--split", "val", "--out"]
    names = [str(tmp_path / f"{name}.jsonl") for name in ("train", "valid")]
    for name in names:
        assert main([*base, name]) == 0
    capsys.readouterr()
    assert main(["data", "check", *names]) == 3
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "shared between files:",
        f"  1 source is used by both train.jsonl and valid.jsonl, first: {tmp_path}/videos/-HG3Omg_89c_000030.mp4.",
    ]


def test_findings_show_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.jsonl"
    (tmp_path / "a.mp4").write_bytes(b"x")
    line = {"id": "1", "question": "?", "answer": "", "video": "a.mp4"}
    file.write_text("".join(json.dumps(line | {"id": str(n), "question": f"{n}?"}) + "\n" for n in range(12)))
    assert main(["data", "check", str(file)]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == ("- 12 samples have an empty answer, first: line 1. Lines 1-12.")


def test_missing_files_are_our_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "prepare", "vggsound", "--root", str(tmp_path), "--split", "test", "--out", str(tmp_path / "o")]
    assert main(words) == 1
    assert capsys.readouterr().err == (
        f"crema: 1 annotation file of vggsound is missing in '{tmp_path}'. Nothing was written:\n- vggsound.csv\n"
        "Get them from https://github.com/hche11/VGGSound (CC-BY-4.0 (labels); videos of YouTube).\n"
    )
