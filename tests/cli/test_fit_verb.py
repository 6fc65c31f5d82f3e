"""`crema fit` and `crema resume`, end to end on a few clips."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import crema_core
from crema_core.cli.fit_config import complete, read_config
from crema_core.cli.main import main
from crema_core.errors import OptionsError
from crema_core.plugins.control import RunControl
from crema_core.plugins.hooks import hookimpl, load_hooks
from crema_core.train.metrics import MetricLogger, read_metrics
from tests.support.metrics import without_times
from tests.support.world import MODALITIES, QUICK


def words(clips: Path, tiny: Path, out: Path, *more: str) -> list[str]:
    return ["fit", str(clips), "--modalities", MODALITIES, "--backbone", str(tiny), "--out", str(out), *QUICK, *more]


def test_fit_leaves_a_run_with_model_card_and_report(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {"config.json", "fit.json", "metrics.jsonl", "model", "report.html"}
    assert (trained / "model" / "README.md").is_file()
    assert crema_core.load(trained / "model").names == ("video", "depth")


@pytest.mark.slow
def test_fit_from_a_configuration_file_is_the_same_run(
    trained: Path, clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"data: {clips}\nbackbone: {tiny_folder}\nout: {tmp_path / 'run'}\nmodalities:\n"
        "- {name: video, num_frames: 2}\n- {name: depth, num_frames: 1}\n"
        "settings: {epochs: 9, batch_size: 27, early_exit: 1.8}\n"
    )
    assert main(["fit", str(file), "--json", "--set", "epochs=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_steps"] == 4
    assert found["model"] == str(tmp_path / "run" / "model")
    ours, theirs = (
        [line for line in without_times(read_metrics(run / "metrics.jsonl")) if line["kind"] == "epoch"]
        for run in (tmp_path / "run", trained)
    )
    assert ours == theirs


@pytest.mark.slow
def test_validation_data_give_a_score_and_examples_in_the_report(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(words(clips, tiny_folder, out, "--eval-data", str(clips), "--set", "epochs=1", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["best_score"] == 0.0
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>Validation questions and answers</h2>" in html
    assert "<h2>Validation</h2>" in html
    assert len((out / "examples.jsonl").read_text().splitlines()) == 54
    assert "- validation accuracy: 0.0%" in (out / "model" / "README.md").read_text()


@pytest.mark.slow
def test_an_interrupted_fit_is_saved_and_resumed_to_the_same_weights(
    trained: Path,
    clips: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    update = MetricLogger.update
    seen = []

    def interrupt(self: MetricLogger, *arguments: object, **named: object) -> None:
        update(self, *arguments, **named)  # type: ignore[arg-type]
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(MetricLogger, "update", interrupt)
        assert main(words(clips, tiny_folder, out, "--set", "early_exit=1.8")) == 130
    assert capsys.readouterr().err.endswith(
        f"crema: interrupted; everything is saved. Continue with: crema resume {out}\n"
    )
    assert not (out / "model").exists()
    assert main(["resume", str(out)]) == 0
    for file in ("fusion.safetensors", "video/adapter.safetensors", "depth/adapter.safetensors"):
        if (trained / "model" / file).exists():
            assert (out / "model" / file).read_bytes() == (trained / "model" / file).read_bytes()


@pytest.mark.slow
def test_a_fit_killed_while_it_built_the_model_is_resumed_from_its_beginning(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "fit.json").write_bytes((trained / "fit.json").read_bytes())
    assert main(["resume", str(out), "--set", "epochs=1"]) == 0
    assert (out / "last").read_text() == "epoch-001-step-000002\n"


def test_a_used_folder_is_refused(
    trained: Path, clips: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(clips, tiny_folder, trained)) == 1
    assert capsys.readouterr().err == (
        f"crema: '{trained}' already holds a run. A new run needs a folder of its own. Continue that run with "
        f"crema resume {trained}, or give another --out.\n"
    )


@pytest.mark.slow
def test_a_folder_whose_training_was_refused_before_it_began_is_used_again(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, empty = tmp_path / "run", tmp_path / "empty.jsonl"
    empty.write_text('{"id": "1", "question": "what ?", "answer": "red"}\n')
    for _ in range(2):
        assert main(words(empty, tiny_folder, out)) == 1
        said = capsys.readouterr().err
        assert "already holds a run" not in said
    assert main(words(clips, tiny_folder, out, "--set", "epochs=1")) == 0


def test_resume_of_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"crema: '{tmp_path}' holds no run of crema fit (there is no fit.json in it). Accepted: a directory that crema "
        "fit wrote. Check the path; a run of crema_core.fit is continued in Python with fit(..., resume=True), a "
        "pretraining with the words it was begun with and --resume: crema pretrain ... --out RUN --resume.\n"
    )


def test_a_misspelt_setting_names_the_nearest_before_anything_is_loaded(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(clips), "--out", str(tmp_path / "run"), "--set", "epoch=3"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("crema: fit: unknown option 'epoch'. Accepted: ")
    assert error.endswith("Did you mean 'epochs'?\n")
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_of_the_configuration_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data: train.jsonl\nmodalites: [video]\n")
    with pytest.raises(OptionsError) as caught:
        read_config(str(file), {}, {})
    assert str(caught.value) == (
        "config.yaml: unknown option 'modalites'. Accepted: backbone, backbone_dropout, data, encoders, eval_data, "
        "fusion, image_size, init_from, language_model, language_revision, major, mmqa, modalities, out, precision, "
        "preset, qformer, quantization, revision, seed, settings, template, tuning. Did you mean 'modalities'?"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: [",
            "The configuration '{file}' is not YAML (expected the node content, but found '<stream end>', line 1). It "
            "is a YAML file, one 'key: value' per line. Check the path, or correct it.",
        ),
        (
            "- a",
            "The configuration '{file}' is list, not 'key: value' lines. At least 'data: FILE' is needed. Write it.",
        ),
    ],
)
def test_a_file_that_is_no_configuration_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(OptionsError) as caught:
        read_config(str(file), {}, {})
    assert str(caught.value) == message.format(file=file)


def test_an_absent_configuration_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        read_config(str(tmp_path / "no.yaml"), {}, {})
    assert str(caught.value) == (
        f"The configuration '{tmp_path / 'no.yaml'}' does not exist. It is a YAML file, one 'key: value' per line. "
        "Check the path, or correct it."
    )


def test_modalities_default_to_those_of_the_data(clips: Path) -> None:
    config = complete(read_config(str(clips), {"eval_data": None}, {"epochs": 2}))
    assert config.modalities == ("video", "audio", "depth", "flow", "normals", "pointcloud", "touch", "thermal")
    assert config.settings == {"epochs": 2}


def test_data_without_any_modality_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"id": "1", "question": "q", "answer": "a"}\n')
    assert main(["fit", str(data)]) == 1
    assert capsys.readouterr().err == (
        f"crema: '{data}' has no sample with a source of an installed modality. Training needs at least one modality. "
        "Add paths to the lines, or install the packages of their modalities.\n"
    )


@pytest.mark.slow
def test_a_run_that_a_package_stops_ends_well_states_who_stopped_it_and_is_resumed(
    clips: Path,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stopping:
        @hookimpl
        def crema_step_finished(self, control: RunControl) -> None:
            control.stop("enough")

    out = tmp_path / "run"
    text = "Stopping stopped the run after update 1: enough"
    with monkeypatch.context() as patch:
        patch.setattr("crema_core.train.fit.load_hooks", lambda: load_hooks([Stopping()]))
        assert main(words(clips, tiny_folder, out)) == 0
    assert f"{text}. Continue with: crema resume {out}\n" in capsys.readouterr().out
    assert "Stopping stopped the run after update 1 (epoch 1): enough." in (out / "report.html").read_text("utf-8")
    assert crema_core.load(out / "model").names == ("video", "depth")
    assert main(["resume", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stopped"], found["num_steps"] > 1) == (None, True)


def test_a_file_without_a_usable_line_is_refused_for_the_reason_of_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"id": "1", "question": "bell \\ud83d?", "answer": "a", "video": "a.mp4"}\n')
    assert main(["fit", str(data), "--out", str(tmp_path / "run")]) == 1
    assert '- line 1: "question" holds \\ud83d, one half of a character' in capsys.readouterr().err
