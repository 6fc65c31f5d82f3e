"""One choice, several values, several seeds; finished cells stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import crema_analysis.cells as cell_module
from crema_analysis.axes import AXES
from crema_analysis.cells import Measured
from crema_analysis.sweep import sweep
from crema_core.api.build import build
from crema_core.common.progress import StatusLine
from crema_core.errors import CheckpointError, DataFileError, OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.model.settings import ModelSettings
from crema_core.plugins import registry
from crema_core.train.checkpoints import Checkpointer
from crema_core.train.fit import fit
from tests.train.file_modalities import file_modalities, write_records

pytestmark = pytest.mark.slow  # trains a model per cell

SETTINGS = {"epochs": 2, "batch_size": 4, "lr": 1e-2, "checkpoint_every": 1}


def run(folder: Path, backbone: Path, out: str = "out", **options: Any) -> Any:
    values: dict[str, Any] = {
        "over": "mode",
        "seeds": (0,),
        "settings": SETTINGS | options.pop("more", {}),
        "max_new_tokens": 2,
        **options,
    }
    return sweep(
        write_records(folder / "train", 6, modalities="mp"),
        write_records(folder / "test", 4, seed=1, modalities="mp"),
        modalities=values.pop("modalities", [file_modalities()[0], file_modalities()[3]]),
        out=folder / out,
        model=ModelSettings(backbone=str(backbone), **values.pop("model", {})),
        evaluation=EvaluationSettings(max_new_tokens=values.pop("max_new_tokens")),
        status=StatusLine(enabled=False),
        **values,
    )


def facts(cell: Measured) -> tuple[object, ...]:
    return cell.accuracy, cell.by_type, cell.trainable, cell.tokens_per_answer, cell.num_steps, cell.exited


def test_a_cell_is_what_build_fit_and_evaluate_give(t5_folder: Path, tmp_path: Path) -> None:
    found = run(tmp_path, t5_folder, seeds=(0, 5))
    assert [row.label for row in found.rows] == ["sequential", "joint"]
    model = build([file_modalities()[0], file_modalities()[3]], backbone=t5_folder, seed=5)
    trained = fit(
        model,
        write_records(tmp_path / "train", 6, modalities="mp"),
        out=tmp_path / "by-hand",
        seed=5,
        mode="joint",
        status=StatusLine(enabled=False),
        **SETTINGS,
    )
    result = evaluate(model, write_records(tmp_path / "test", 4, seed=1, modalities="mp"), max_new_tokens=2)
    cell = found.rows[1].cells[5]
    assert (cell.accuracy, cell.num_steps) == (result.accuracy, trained.num_steps)
    assert cell.trainable == sum(own.numel() for own in model.trainable_parameters().values())
    assert found.notes == (
        "Accuracy in per cent on 4 questions, mean ± standard deviation over seeds; Table 17 of the CREMA paper "
        "compares the same choice.",
    )


@pytest.mark.parametrize(
    ("over", "values", "differ"),
    [
        ("fusion", ["concat", "linear"], "trainable"),
        ("fusion", ["concat", "individual_qformers"], "trainable"),
        ("num_queries", [3, 4], "tokens_per_answer"),
        ("lora_rank", [0, 2], "trainable"),
        ("output_start", ["fresh", "zero"], None),
        ("connector", ["auto", "interpolate"], "trainable"),
        ("major", ["main", "points"], None),
        ("early_exit", [None, 0.0001], "exited"),
    ],
)
def test_every_choice_reaches_the_model_or_the_training(
    t5_folder: Path, tmp_path: Path, over: str, values: list[Any], differ: str | None
) -> None:
    more = (
        {"early_exit_reference": "all", "early_exit_loss_drop": None} if over == "early_exit" else {}
    )  # two epochs have no decline after a peak
    one, two = (row.cells[0] for row in run(tmp_path, t5_folder, over=over, values=values, more=more).rows)
    if differ is not None:
        assert getattr(one, differ) != getattr(two, differ)
    configs = [
        (tmp_path / "out" / "runs" / f"{'none' if own is None else own}.seed-0" / "model" / "crema.json").read_text()
        for own in values
    ]
    assert (configs[0] == configs[1]) == (over == "early_exit")
    assert not list((tmp_path / "out" / "runs").glob("*/checkpoints"))


def test_an_interrupted_sweep_goes_on_within_the_training_and_gives_the_same_numbers(
    t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path, t5_folder)

    class Stop(BaseException):
        pass

    save, saves = Checkpointer.save, []

    def saved(self: Checkpointer, *arguments: Any, **options: Any) -> Any:
        result = save(self, *arguments, **options)
        if "joint" in str(result):
            saves.append(result)
        if len(saves) == 2:
            raise Stop
        return result

    monkeypatch.setattr(Checkpointer, "save", saved)
    with pytest.raises(Stop):
        run(tmp_path, t5_folder, out="again")
    done = (tmp_path / "again" / "cells" / "sequential.seed-0.json").read_text()
    assert not (tmp_path / "again" / "cells" / "joint.seed-0.json").exists()
    again = run(tmp_path, t5_folder, out="again")
    assert (tmp_path / "again" / "cells" / "sequential.seed-0.json").read_text() == done
    assert [facts(row.cells[0]) for row in again.rows] == [facts(row.cells[0]) for row in whole.rows]
    assert again.rows[1].cells[0].duration_s is None


def test_values_and_seeds_may_be_added_and_encoders_run_once(
    t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, t5_folder, over="lora_rank", values=[1])
    trained: list[int] = []
    own = cell_module.fit

    def count(model: Any, *arguments: Any, **options: Any) -> Any:
        trained.append(options["seed"])
        monkeypatch.setattr(model.branch("main").modality, "encode", None)
        return own(model, *arguments, **options)

    monkeypatch.setattr(cell_module, "fit", count)
    found = run(tmp_path, t5_folder, over="lora_rank", values=[1, 2], seeds=(0, 1))
    assert trained == [0, 1, 1]
    assert [list(row.cells) for row in found.rows] == [[0, 1], [0, 1]]


def test_another_training_in_the_same_folder_is_refused(t5_folder: Path, tmp_path: Path) -> None:
    run(tmp_path, t5_folder, values=["joint"])
    with pytest.raises(CheckpointError) as error:
        run(tmp_path, t5_folder, values=["joint"], max_new_tokens=3)
    assert str(error.value) == (
        f"'{tmp_path / 'out'}' holds cells of another table (max_new_tokens: 2 -> 3). Only the same one can be gone on "
        "with; rows and seeds may be added. Name another folder with --out. Nothing was changed."
    )


MISTAKES = {
    "'fuson' is no choice to sweep. Choices: fusion, major, num_queries, lora_rank, connector, output_start, mode, "
    "early_exit. Did you mean 'fusion'? Name one of these.": {"over": "fuson"},
    f"'linaer' is not an installed fusion. Installed: {', '.join(registry.installed_names('fusion'))}. Did you mean "
    "'linear'?": {"over": "fusion", "values": ["concat", "linaer"]},
    "major='wave' is not one of the built modalities. Accepted: main, points. Add it to modalities, or leave major "
    "out.": {
        "over": "major",
        "values": ["wave"],
    },
    "'4' is listed twice for lora_rank. A sweep has one row for each value. Write every value once, or leave the "
    "values out for the default ones.": {"over": "lora_rank", "values": [4, "4"]},
    "No value is named for mode. A sweep has one row for each value. Write every value once, or leave the values out "
    "for the default ones.": {"values": []},
    "seeds is [1, 1]. Accepted: one or more different whole numbers from 0. Write --seeds 3 for 0, 1 and 2.": {
        "seeds": (1, 1)
    },
    "'main' has a lora_rank of its own, which a sweep over lora_rank would not change. Accepted: modalities that leave "
    "it open. Leave it out for this modality, or sweep something else.": {
        "over": "lora_rank",
        "modalities": [{"name": "main", "mmqa": {"lora_rank": 3}}],
    },
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_found_before_anything_is_trained_or_written(text: str, t5_folder: Path, tmp_path: Path) -> None:
    registry.register(file_modalities()[0], replace=True)
    with pytest.raises(OptionsError) as error:
        run(tmp_path, t5_folder, **MISTAKES[text])
    assert str(error.value) == text
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_be_are_named(t5_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="early_exit"):
        run(tmp_path, t5_folder, over="early_exit", values=[-1.0])


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as error:
        sweep([], [], modalities=[file_modalities()[0]], over="mode", out=tmp_path / "out")
    assert str(error.value) == (
        "A sweep needs samples to train on and to ask about, and there are none. Give some of each."
    )


def test_every_choice_of_the_help_exists() -> None:
    from crema_analysis.sweep_verb import HELP

    rows = [line.split() for line in HELP.partition("compares them:\n")[2].partition("The rest")[0].splitlines()]
    assert [row[0] for row in rows] == list(AXES)
    sources = [" ".join(row[1:3]) if row[1] == "Table" else None for row in rows]
    assert sources == [axis.source for axis in AXES.values()]
