"""Samples whose files cannot be used: named before training, or left out with the numbers of a run without them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.common.processes import ALONE
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import read_data_file
from crema_core.data.unusable import SKIPPED, read_skipped
from crema_core.errors import CheckpointError, CremaError, DataFileError, MediaError, TrainingError
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.train.fit import fit
from crema_core.train.metrics import METRICS
from crema_core.train.run import CONFIG, Run, only_writer
from tests.support.metrics import without_times
from tests.train.conftest import MakeModel
from tests.train.file_modalities import trained_modalities, write_data

SETTINGS: dict[str, Any] = {
    "epochs": 2, "batch_size": 2, "lr": 1e-2, "log_every": 1, "seed": 7, "modality_dropout": 0.3, "checkpoint_every": 1,
    "load_best": False, "max_skipped": 0.5,
}  # fmt: skip
QUIET = StatusLine(enabled=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve samples, of which lines 2 and 5 have a damaged file and line 8 has none."""
    path = write_data(tmp_path / "data", 12, modalities="mo")
    (tmp_path / "data" / "main-1.npy").write_bytes(b"damaged")
    (tmp_path / "data" / "other-4.npy").write_bytes(b"damaged")
    (tmp_path / "data" / "main-7.npy").unlink()
    return path


def without(data: Path, *lines: int) -> Path:
    """Return a copy of a data file without some lines, beside it."""
    kept = [text for number, text in enumerate(data.read_text().splitlines(), start=1) if number not in lines]
    copy = data.with_name("kept.jsonl")
    copy.write_text("".join(f"{text}\n" for text in kept))
    return copy


def train(new_model: MakeModel, data: Path, out: Path, **settings: Any) -> tuple[Run, dict[str, torch.Tensor]]:
    model = settings.pop("model", None) or new_model(dropout=0.1, num=2)
    options = {"status": QUIET, "hooks": Hooks(strict=True)} | settings.pop("options", {})
    run = fit(model, data, out=out, **options, **{**SETTINGS, **settings})
    return run, model.adapter_state_dict()


def of_steps(run: Run) -> list[dict[str, Any]]:
    return [line for line in without_times(run.metrics) if line["kind"] != "skipped"]


def test_what_names_and_sizes_tell_of_all_data_is_refused_before_training(
    new_model: MakeModel, tmp_path: Path, data: Path
) -> None:
    other = write_data(tmp_path / "valid", 3, modalities="mo")
    (tmp_path / "valid" / "main-2.npy").write_bytes(b"")
    with pytest.raises(DataFileError) as error:
        fit(new_model(num=2), data, other, out=tmp_path / "run", status=QUIET)
    assert str(error.value).splitlines() == [
        "1 of 12 samples of data.jsonl cannot be used: 1 with a missing file.",
        "- data.jsonl line 8, main: main-7.npy does not exist",
        "1 of 3 samples of data.jsonl cannot be used: 1 with an empty file.",
        "- data.jsonl line 3, main: main-2.npy is empty (0 bytes)",
        'Fix the files or their paths, or pass on_error="skip" to leave these samples out.',
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "cache", ["memory", *(pytest.param(own, marks=pytest.mark.slow) for own in ("none", "folder"))]
)
def test_samples_left_out_leave_the_numbers_of_a_run_without_their_lines(
    new_model: MakeModel, tmp_path: Path, data: Path, cache: str
) -> None:
    place = str(tmp_path / "features") if cache == "folder" else cache
    run, weights = train(new_model, data, tmp_path / "skip", on_error="skip", cache=place)
    plain, expected = train(new_model, without(data, 2, 5, 8), tmp_path / "plain", cache="none")
    # Modality dropout draws by the place among the samples that are left.
    assert of_steps(run) == of_steps(plain)
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-6)
    assert [(own.line, own.why) for own in run.skipped["data"]] == [
        (2, "unreadable"),
        (5, "unreadable"),
        (8, "missing"),
    ]
    assert read_skipped(tmp_path / "skip" / SKIPPED) == {"data": list(run.skipped["data"])}
    assert run.metrics[0] == {"kind": "skipped", "epoch": 0, "step": 0, "data": 3}
    assert "'main-1.npy' cannot be read" in run.skipped["data"][0].reason
    assert "Sample" not in run.skipped["data"][0].reason


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", pytest.param("none", marks=pytest.mark.slow)])
@pytest.mark.parametrize("after_step", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_run_that_left_samples_out_is_resumed_to_the_same_bits(
    new_model: MakeModel, tmp_path: Path, data: Path, cache: str, after_step: int
) -> None:
    class Stopper:
        @staticmethod
        @hookimpl
        def crema_train_started() -> None:
            if not after_step:
                raise KeyboardInterrupt

        @staticmethod
        @hookimpl
        def crema_step_finished(step: int) -> None:
            if step == after_step:
                raise KeyboardInterrupt

    whole, expected = train(new_model, data, tmp_path / "whole", on_error="skip", cache=cache)
    hooks = Hooks(strict=True)
    hooks.add(Stopper, name="test")
    with pytest.raises(KeyboardInterrupt):
        train(new_model, data, tmp_path / "cut", on_error="skip", cache=cache, options={"hooks": hooks})
    # A file that is mended meanwhile stays left out: batches must not change.
    (data.parent / "main-7.npy").write_bytes((data.parent / "main-6.npy").read_bytes())
    (data.parent / "main-1.npy").write_bytes((data.parent / "main-6.npy").read_bytes())
    run, weights = train(new_model, data, tmp_path / "cut", options={"resume": True})
    assert without_times(run.metrics) == without_times(whole.metrics)
    assert all(torch.equal(weights[key], value) for key, value in expected.items())
    assert run.skipped == whole.skipped


@pytest.mark.slow
def test_a_file_that_breaks_while_a_run_is_interrupted_is_refused(
    new_model: MakeModel, tmp_path: Path, data: Path
) -> None:
    train(new_model, data, tmp_path / "run", on_error="skip")
    (data.parent / "main-0.npy").write_bytes(b"damaged")
    with pytest.raises(DataFileError, match="continues with the same ones"):
        train(new_model, data, tmp_path / "run", options={"resume": True})
    (data.parent / "main-0.npy").unlink()
    with pytest.raises(DataFileError, match=r"main-0\.npy does not exist"):
        train(new_model, data, tmp_path / "run", options={"resume": True})
    (tmp_path / "run" / SKIPPED).write_text("nonsense\n")
    with pytest.raises(CheckpointError, match="Restore the file"):
        train(new_model, data, tmp_path / "run", options={"resume": True})


@pytest.mark.slow
def test_a_file_of_a_modality_whose_encoder_is_trained_is_read_before_training_too(
    new_model: MakeModel, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data", 8, modalities="mgp")
    (tmp_path / "data" / "gait-4.npy").write_bytes(b"damaged")
    model = new_model(modalities=trained_modalities())
    run, _ = train(new_model, data, tmp_path / "run", on_error="skip", model=model)
    assert [(own.line, own.modality) for own in run.skipped["data"]] == [(5, "gait")]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_more_than_a_share_of_unreadable_samples_stops_the_run(
    new_model: MakeModel, tmp_path: Path, data: Path, cache: str
) -> None:
    with pytest.raises(DataFileError) as error:
        train(new_model, data, tmp_path / "run", on_error="skip", max_skipped=0.2, cache=cache)
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "3 of 12 samples of data.jsonl cannot be used: 1 with a missing file, 2 with an unreadable file."
    )
    assert "at most max_skipped=0.2 of them may be left out" in lines[-1]
    assert lines[-1].endswith("pass max_skipped=0.25 to leave out as many.")


def test_by_default_a_source_that_cannot_be_read_stops_the_run(
    new_model: MakeModel, tmp_path: Path, data: Path
) -> None:
    with pytest.raises(MediaError, match=r"Sample 's1' \(line 2\): 'main-1.npy' cannot be read"):
        train(new_model, without(data, 8), tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_failed_before_its_first_update_does_not_refuse_the_same_command(
    new_model: MakeModel, tmp_path: Path, data: Path
) -> None:
    out = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(MediaError):
            train(new_model, without(data, 8), out)
    assert (out / CONFIG).exists()
    with pytest.raises(DataFileError):
        train(new_model, data, out, on_error="skip", max_skipped=0.2)
    train(new_model, data, out, on_error="skip")
    run, _ = train(new_model, without(data, 2, 5, 8), tmp_path / "other")
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for settings in ({"on_error": "skip"}, {}):
        with pytest.raises(TrainingError, match="already holds a run"):
            train(new_model, data, out, **settings)
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before
    assert run.metrics[0]["kind"] == "step"


@pytest.mark.slow
def test_what_failed_leaves_nothing_behind_in_the_run_that_follows(
    new_model: MakeModel, tmp_path: Path, data: Path
) -> None:
    class Broken:
        @staticmethod
        @hookimpl
        def crema_train_started() -> None:
            raise KeyboardInterrupt

    hooks = Hooks(strict=True)
    hooks.add(Broken, name="test")
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(new_model, data, out, on_error="skip", options={"hooks": hooks})
    assert (out / SKIPPED).exists()
    run, _ = train(new_model, without(data, 2, 5, 8), out)
    assert not (out / SKIPPED).exists()
    assert json.loads((out / METRICS).read_text().splitlines()[0])["kind"] == "step"
    assert run.skipped == {}


@pytest.mark.parametrize("verb", ["fit", "evaluate", "read"])
def test_the_advice_of_the_message_works(new_model: MakeModel, tmp_path: Path, data: Path, verb: str) -> None:
    from crema_core.evaluation.run import evaluate

    run = {
        "fit": lambda **more: train(new_model, data, tmp_path / "run", **{"max_skipped": 0.1, **more}),
        "evaluate": lambda **more: evaluate(new_model(num=2), data, **more),
        "read": lambda **more: read_data_file(data, modalities=["main", "other"], **more),
    }[verb]
    advised: dict[str, Any] = {}
    for _ in range(4):
        try:
            run(**advised)
        except CremaError as error:
            text = str(error)
            name, _, value = text[text.rindex("pass ") + 5 :].partition(" ")[0].partition("=")
            advised[name] = json.loads(value)
        else:
            break
    else:
        pytest.fail(f"the advice leads nowhere: {advised}")
    assert advised["on_error"] == "skip"


@pytest.mark.slow
def test_a_run_from_before_these_settings_is_continued(new_model: MakeModel, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", 4, modalities="mo"), tmp_path / "run"
    train(new_model, data, out)
    config = json.loads((out / CONFIG).read_text())
    del config["settings"]["on_error"], config["settings"]["max_skipped"]
    (out / CONFIG).write_text(json.dumps(config))
    run, _ = train(new_model, data, out, options={"resume": True})
    assert run.skipped == {}
    with pytest.raises(CheckpointError, match="on_error: stop -> skip"):
        train(new_model, data, out, on_error="skip", options={"resume": True})


def test_a_folder_in_which_another_process_trains_is_refused(new_model: MakeModel, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", 4, modalities="mo"), tmp_path / "run"
    with ThreadPoolExecutor(1) as other, ExitStack() as stack:
        other.submit(stack.enter_context, only_writer(out, ALONE, print)).result()
        with pytest.raises(TrainingError, match=r"'.*run' belongs to another process: a training of \w+ on "):
            train(new_model, data, out)
        assert sorted(path.name for path in out.iterdir()) == ["owner.json", "owner.lock"]
        other.submit(stack.close).result()
    assert not out.exists()
    assert train(new_model, data, out)[0].num_steps == 4
