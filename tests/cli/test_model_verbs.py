"""`crema eval`, `answer` and `describe` on a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.main import main


def test_eval_prints_accuracy_by_type(trained: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(trained), str(clips), "--modalities", "depth"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "modalities: depth"
    assert lines[2] == "judged by: exact"
    assert lines[4].split() == ["questions", "number", "accuracy", "95%", "interval"]
    assert [line.split()[:2] for line in lines[5:14]] == [
        [kind, "6"]
        for kind in ("behind", "color", "facing", "first_sound", "hottest", "material", "motion", "nearest", "shape")
    ]
    assert lines[14].split()[:2] == ["all", "54"]
    assert lines[16].split("  ")[0] == "trainable parameters"
    assert lines[-1].startswith("Intervals: 95% Wilson score interval, ")


@pytest.mark.slow
def test_eval_as_json_with_one_modality_shuffled_writes_every_answer(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    assert main(["eval", str(trained), str(clips), "--shuffle", "depth", "--json", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["shuffled"], result["modalities"], result["num_samples"]) == ("depth", ["video", "depth"], 54)
    assert len(out.read_text().splitlines()) == 54
    assert result["cost"]["trainable_parameters"] > 0
    assert result["cost"]["gflops_per_answer"] > 0
    assert result["table"][-1]["name"] == "all"
    assert result["table"][-1]["low"] <= result["accuracy"] <= result["table"][-1]["high"]


@pytest.mark.slow
def test_eval_goes_on_where_it_was_interrupted(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["eval", str(trained), str(clips), "--modalities", "depth", "--json", "--out", str(out)]
    assert main(words) == 0
    whole = json.loads(capsys.readouterr().out)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:20]) + lines[20][:30])
    assert main([*words, "--resume"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert out.read_text() == "".join(lines)
    assert {**again, "duration_s": 0} == {**whole, "duration_s": 0}
    assert main([*words[:-2], "--resume"]) == 1
    assert capsys.readouterr().err.endswith(
        "crema: --resume without --out. Answers are taken up from a file. Add --out FILE.jsonl.\n"
    )


@pytest.mark.slow
def test_eval_without_the_fusion_gives_the_language_model_more_tokens(
    trained: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = []
    for more in ([], ["--concat"]):
        assert main(["eval", str(trained), str(clips), "--json", *more]) == 0
        costs.append(json.loads(capsys.readouterr().out))
    assert [own["fusion"] for own in costs] == ["model", "concat"]
    assert costs[0]["cost"]["trainable_parameters"] > costs[1]["cost"]["trainable_parameters"]


def test_eval_of_an_unknown_modality_is_our_error(
    trained: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(trained), str(clips), "--modalities", "dept"]) == 1
    assert capsys.readouterr().err.endswith(
        "crema: This model has no modality 'dept'. It has: video, depth. Did you mean 'depth'? Add one with "
        "model.add_modality('dept').\n"
    )


def test_answer_chooses_among_choices(trained: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = str(clips.parent / "clips" / "000000.depth.png")
    words = ["answer", str(trained), "which object is nearest?", "--depth", depth, "--choices", "left", "right"]
    assert main(words) == 0
    text, empty, header, *rows = capsys.readouterr().out.splitlines()
    assert text in ("left", "right")
    assert (empty, header.split()) == ("", ["choice", "log-probability"])
    assert rows[0].startswith(text)


def test_answer_as_json_names_the_modalities_used(
    trained: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = str(clips.parent / "clips" / "000000")
    words = ["answer", str(trained / "model"), "what?", "--video", f"{stem}.mp4", "--source", f"depth={stem}.depth.png"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["used"] == ["video", "depth"]
    assert found["scores"] == {}
    assert isinstance(found["text"], str)


def test_answer_without_any_file_is_our_error(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", str(trained), "what?"]) == 1
    assert capsys.readouterr().err.endswith(
        "crema: The question 'what?' comes without any source. Accepted: one or more of video, depth. Pass one of "
        "them, for example --video FILE.\n"
    )


def test_answer_with_a_misspelt_modality_is_wrong_usage(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", str(trained), "what?", "--vidio", "a.mp4"]) == 2
    said = capsys.readouterr().err
    assert "unrecognized arguments: --vidio a.mp4" in said
    assert "'vidio' is neither an option nor an installed modality. Installed: " in said
    assert said.endswith(
        " Did you mean 'video'? If the model was trained with it, its package is not installed: the same command "
        "without --vidio names it.\n"
    )


def test_an_absent_model_is_our_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(tmp_path / "no")]) == 1
    assert capsys.readouterr().err == (
        f"crema: There is no folder '{tmp_path / 'no'}'. A saved model is a folder. Check the path. "
        "Nothing was changed.\n"
    )


@pytest.mark.slow
def test_describe_of_a_saved_model_and_of_one_to_build_agree(
    trained: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(trained), "--json"]) == 0
    saved = json.loads(capsys.readouterr().out)
    options = ["--set", "video.num_frames=2", "--set", "depth.num_frames=1", "--backbone", str(tiny_folder)]
    assert main(["describe", "--modalities", "video,depth", *options, "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built == saved
    assert main(["describe", str(trained)]) == 0
    assert capsys.readouterr().out.startswith("component ")


@pytest.mark.parametrize("words", [["--qformer", "layers=1,width=64"], ["--image-size", "64"]])
def test_describe_refuses_what_a_saved_model_was_built_with(
    words: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(trained), *words]) == 1
    message = capsys.readouterr().err
    assert "came with a saved model" in message
    assert f"Leave {words[0]} out." in message


@pytest.mark.parametrize("words", [[], ["model", "--modalities", "video"]])
def test_describe_needs_one_of_two_things(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *words]) == 2
    assert capsys.readouterr().err == (
        "crema describe: name a saved model, or what to build with --modalities, not both and not neither. "
        "Try: crema describe --help\n"
    )
