import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from crema_core.errors import OptionsError
from crema_core.plugins import registry
from crema_core.train.settings import RESUMABLE, TrainSettings, train_settings
from tests.support.birds import register_songbirds
from tests.support.presets import preset_names


@pytest.mark.parametrize("preset", [None, *preset_names()])
def test_every_preset_is_valid(preset: str | None) -> None:
    assert isinstance(train_settings(preset), TrainSettings)


def test_single_settings_replace_a_presets() -> None:
    settings = train_settings("released", {"epochs": 3})
    assert (settings.epochs, settings.early_exit_start_epoch, settings.early_exit_metric) == (3, 5, "lora")


@pytest.mark.parametrize(("values", "said"), [
    ({"lr": float("inf")}, "fit.lr: a finite number is needed, got inf. "),
    ({"weight_decay": float("inf")}, "fit.weight_decay: a finite number is needed, got inf. "),
    ({"max_grad_norm": float("nan")}, "fit.max_grad_norm: a finite number is needed, got nan. "),
    ({"betas": (0.9, float("nan"))}, "fit.betas: a finite number is needed, got nan. "),
    ({"betas": (0.9, 1)}, "fit.betas.1: input should be less than 1, got 1. "),
    ({"betas": (-0.1, 0.9)}, "fit.betas.0: input should be greater than or equal to 0, got -0.1. "),
])  # fmt: skip
def test_no_setting_is_without_bounds(values: dict[str, object], said: str) -> None:
    with pytest.raises(OptionsError) as error:
        train_settings(None, values)
    assert str(error.value).startswith(said)
    with pytest.raises(ValidationError):
        TrainSettings(**values)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        train_settings().epochs = 3  # type: ignore[misc]


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(OptionsError) as error:
        train_settings("papr")
    assert str(error.value) == (
        f"'papr' is not an installed preset. Installed: {', '.join(registry.installed_names('preset'))}. Did you mean "
        "'paper'?"
    )


def test_a_variant_of_a_family_is_a_preset_too() -> None:
    register_songbirds()
    settings = train_settings("songbirds-vw", {"batch_size": 4})
    assert (settings.lr, settings.batch_size, settings.warmup_steps) == (3e-4, 4, 30)


def test_an_unknown_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(OptionsError) as error:
        train_settings(None, {"epoch": 3})
    accepted = ", ".join(sorted(TrainSettings.model_fields))
    assert str(error.value) == f"fit: unknown option 'epoch'. Accepted: {accepted}. Did you mean 'epochs'?"


def test_a_rate_that_ends_above_its_start_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"min_lr=0\.1 is above lr=0\.0002"):
        train_settings(None, {"min_lr": 0.1})


FROM_ONE = (
    "epochs batch_size gradient_accumulation_steps early_exit_start_epoch early_exit_patience eval_every "
    "eval_batch_size max_new_tokens log_every checkpoint_every"
).split()
FROM_ZERO = "seed warmup_steps retained_graphs num_workers".split()
RATES_FROM_ZERO = (
    "min_lr warmup_ratio warmup_start_lr weight_decay modality_dropout early_exit_loss_drop max_skipped".split()
)
ABOVE_ZERO = "lr max_grad_norm early_exit cache_limit_gb cache_disk_limit_gb".split()


@pytest.mark.parametrize(("name", "accepted", "refused"), [
    *((name, 1, 0) for name in FROM_ONE),
    *((name, 0, -1) for name in FROM_ZERO),
    *((name, 0.0, -1e-9) for name in RATES_FROM_ZERO),
    *((name, 1e-9, 0.0) for name in ABOVE_ZERO),
    ("warmup_ratio", 0.999, 1.0), ("modality_dropout", 1.0, 1.001), ("max_skipped", 1.0, 1.001),
    ("early_exit_loss_drop", 0.999, 1.0), ("cache", "a", ""),
])  # fmt: skip
def test_numbers_are_taken_up_to_their_bounds_and_refused_beyond(name: str, accepted: object, refused: object) -> None:
    assert getattr(train_settings(None, {name: accepted}), name) == accepted
    with pytest.raises(OptionsError, match=rf"^fit\.{name}: "):
        train_settings(None, {name: refused})


def test_every_number_has_its_bounds_tried() -> None:
    numbers = {name for name, own in TrainSettings.model_fields.items() if own.metadata}
    assert numbers == {*FROM_ONE, *FROM_ZERO, *RATES_FROM_ZERO, *ABOVE_ZERO, "cache"}


@pytest.mark.parametrize("size", [0, [], [2, 0], [None], True, 2.0, "2"])
def test_sizes_of_parts_are_whole_numbers_from_one(size: object) -> None:
    with pytest.raises(OptionsError) as error:
        train_settings(None, {"micro_batch_size": size})
    assert str(error.value) == (
        "fit.micro_batch_size: a number of samples from 1, or a list of such numbers, one for each sub-step, is "
        f"needed, got {size!r}. Give another value, for example the default."
    )


@pytest.mark.parametrize("size", [None, 3, (2, 3, 8)])
def test_sizes_of_parts_are_the_same_after_they_were_written_as_json(size: object) -> None:
    settings = train_settings(None, {"micro_batch_size": size})
    assert settings.micro_batch_size == size
    assert TrainSettings(**json.loads(settings.model_dump_json())) == settings


def test_resumable_settings_exist() -> None:
    assert set(TrainSettings.model_fields) >= RESUMABLE


def test_settings_import_no_torch() -> None:
    code = "import sys, crema_core.train.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
