"""What `crema fit` is told, by a YAML file, by options, or both. Torch-free, so mistakes are found at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from crema_core.data.check import check_manifest
from crema_core.errors import ManifestError, OptionsError
from crema_core.plugins.spec import parse_settings

YAML_SUFFIXES = (".yaml", ".yml")


class FitConfig(BaseModel):
    """A model to build and its training; frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(description="training data, a JSONL file; paths are relative to the current folder")
    valid: str | None = Field(default=None, description="validation data; with it the best weights are kept")
    out: str | None = Field(default=None, description="the run directory; by default a new one below runs/")
    modalities: tuple[str | dict[str, Any], ...] | None = Field(
        default=None,
        description="senses in the order of training, names or {name: ..., option: value}; default: those in the data",
    )
    backbone: str = Field(default="crema-tiny", description="folder or hub id in BLIP-2 format")
    revision: str | None = Field(default=None, description="hub revision of the backbone")
    fusion: str | dict[str, Any] = Field(default="self_gated", description="name, or {name: ..., option: value}")
    major: str | None = Field(default=None, description="the sense on whose frames the others are fused")
    mmqa: dict[str, Any] = Field(default_factory=dict, description="adapter sizes of all senses")
    template: dict[str, Any] = Field(default_factory=dict, description="wording of questions")
    precision: str = Field(default="fp32", description="of the frozen parts: fp32 or bf16")
    frozen_dropout: bool = Field(default=False, description="train with the frozen parts' dropout, as released")
    quantization: str | None = Field(default=None, description="8bit or 4bit: smaller frozen language model")
    seed: int = Field(default=0, ge=0, description="of new parameters")
    preset: str | None = Field(default=None, description="a set of training settings by name")
    settings: dict[str, Any] = Field(default_factory=dict, description="training settings, see crema fit --help")


BUILD_KEYS = (
    *("backbone", "revision", "fusion", "major", "mmqa", "template"),
    *("precision", "frozen_dropout", "quantization", "seed"),
)
"""Fields that `crema_core.build` takes under the same names, besides `modalities`."""


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
    config = parse_settings(FitConfig, values, title=title)
    return config.model_copy(update={"settings": {**config.settings, **settings}})


def complete(config: FitConfig) -> FitConfig:
    """Fill in what follows from the data, and make paths absolute so that the run can be resumed from elsewhere.

    Raises:
        ManifestError: for data without any source of an installed sense.
    """
    found = config.modalities or tuple(check_manifest(config.data).senses)
    if not found:
        raise ManifestError(
            f"'{config.data}' has no sample with a source of an installed sense. Training needs at least one sense. "
            "Add paths to the lines, or install the packages of their senses."
        )
    return config.model_copy(
        update={
            "modalities": found,
            "data": str(Path(config.data).absolute()),
            "valid": None if config.valid is None else str(Path(config.valid).absolute()),
        }
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionsError(
            f"The configuration '{path}' cannot be read: {error.strerror}. It is a YAML file. Check the path."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise OptionsError(
            f"The configuration '{path}' is not YAML{line}. It has one 'key: value' per line. Correct it."
        ) from error
    if not isinstance(values, dict):
        raise OptionsError(
            f"The configuration '{path}' is {type(values).__name__}, not 'key: value' lines. At least 'data: FILE' is "
            "needed. Write it."
        )
    return values
