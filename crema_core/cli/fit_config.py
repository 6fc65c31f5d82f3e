"""The settings of `crema fit`, by a YAML file, by options, or both. Torch-free, so mistakes are found at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from crema_core.common.reading import read_yaml, shown
from crema_core.common.text import half_character
from crema_core.data.check import check_data_file
from crema_core.data.data_file import read_samples
from crema_core.errors import DataFileError, OptionsError, ReadError
from crema_core.model.settings import ModelSettings
from crema_core.plugins.preset import find_preset
from crema_core.plugins.spec import parse_settings
from crema_core.train.settings import NOT_A_FOLDER, preset_settings, train_settings

YAML_SUFFIXES = (".yaml", ".yml")


class FitConfig(ModelSettings):
    """A model to build and its training: the fields of `ModelSettings`, and these; frozen, unknown keys refused."""

    data: str = Field(description="training data, a JSONL file; paths are relative to the current folder")
    eval_data: str | None = Field(default=None, description="validation data; with it the best weights are kept")
    out: str | None = Field(default=None, description="the run directory; by default a new one below runs/")
    modalities: tuple[str | dict[str, Any], ...] | None = Field(
        default=None,
        description="modalities in the order of training, names or {name: ..., option: value}; default: the data's",
    )
    init_from: str | None = Field(
        default=None, description="a saved model or run to start from: its weights of the same modalities and parts"
    )
    preset: str | None = Field(default=None, description="a set of training settings by name")
    settings: dict[str, Any] = Field(default={}, description="training settings, see crema fit --help")

    def model(self, *names: str) -> ModelSettings:
        """Return the settings of the model alone: all of them, or only those of these names and else the defaults."""
        return ModelSettings(**{name: getattr(self, name) for name in names or ModelSettings.model_fields})


def read_config(source: str, changes: dict[str, Any], settings: dict[str, Any]) -> FitConfig:
    """Return the configuration of a run.

    Args:
        source: a YAML file with the fields of `FitConfig`, or a data file.
        changes: fields given as options; None means not given.
        settings: training settings given as options; they replace single ones of the file.

    Raises:
        OptionsError: for an unreadable file, unknown keys or bad values.
    """
    title = Path(source).name
    values = _read_yaml(Path(source)) if Path(source).suffix in YAML_SUFFIXES else {"data": source}
    values |= {key: value for key, value in changes.items() if value is not None}
    config = parse_settings(FitConfig, _of_preset(values.get("preset")) | values, title=title)
    return config.model_copy(update={"settings": {**config.settings, **settings}})


def show(name: str | None, changes: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return what a preset and the options given with it stand for, as a YAML file for `crema fit`.

    Raises:
        OptionsError: for an unknown preset, or bad settings.
    """
    own = find_preset(name) if name else None
    chosen = preset_settings(name) | settings
    train_settings(None, chosen)
    values = _of_preset(name) | {key: value for key, value in changes.items() if value is not None and key != "preset"}
    replaced = {*settings, *(key for key, value in changes.items() if value is not None)}
    notes = {key: text for key, text in (own.notes if own else {}).items() if text and key not in replaced}
    lines = [f"# preset {name}"]
    if own is not None and not own.dataset and "data" in notes:
        lines += [f"# {notes['data']}", "data: train.jsonl"]
    elif own is not None and own.dataset:
        file = f"{own.dataset}-train.jsonl"
        lines += [f"# crema data prepare {own.dataset} --root DIR --split train --out {file}", f"data: {file}"]
    for key, value in values.items():
        lines += [f"# {notes[key]}"] if key in notes and key not in chosen else []
        lines += yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000).splitlines()
    lines.append("settings:")
    for key, value in chosen.items():
        shown = yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()
        lines.append(f"  {key}: {shown}{f'  # {notes[key]}' if key in notes else ''}")
    return "\n".join(lines)


def _of_preset(name: str | None) -> dict[str, Any]:
    """Return what a preset says about the model; its training settings are looked up by its name."""
    found = find_preset(name) if name else None
    return {} if found is None else dict(found.config)


def complete(config: FitConfig) -> FitConfig:
    """Fill in what follows from the data, and make paths absolute so that the run can be resumed from elsewhere.

    Raises:
        DataFileError: for data without any source of an installed modality, or without a usable line.
    """
    found = config.modalities or tuple(check_data_file(config.data).modalities)
    if not found:
        read_samples(config.data)  # says which lines cannot be used, where that is the reason
        raise DataFileError(
            f"'{config.data}' has no sample with a source of an installed modality. Training needs at least one "
            "modality. Add paths to the lines, or install the packages of their modalities."
        )
    places = {key: getattr(config, key) for key in ("data", "eval_data", "init_from")}
    absolute = {key: str(Path(place).absolute()) for key, place in places.items() if place is not None}
    settings, cache = config.settings, config.settings.get("cache")
    if cache not in (None, *NOT_A_FOLDER):
        settings = {**settings, "cache": str(Path(str(cache)).absolute())}
    return config.model_copy(update={"modalities": found, "settings": settings, **absolute})


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except ReadError as error:
        raise OptionsError(
            f"The configuration {shown(path)} {error.reason}. It is a YAML file, one 'key: value' per line. Check the "
            "path, or correct it."
        ) from error
    if half := half_character(values):
        raise OptionsError(
            f"The configuration '{path}' holds {half}, one half of a character that was cut in two, which no file or "
            "tokenizer takes. It is a YAML file of whole characters. Write the whole character, or leave it out."
        )
    if not isinstance(values, dict):
        raise OptionsError(
            f"The configuration '{path}' is {type(values).__name__}, not 'key: value' lines. At least 'data: FILE' is "
            "needed. Write it."
        )
    return values
