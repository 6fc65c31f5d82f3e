"""Choices that can be swept, where each goes, and which values it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crema_core.api.requests import ModalityRequest, Request, choose_major, name_and_options, resolve_requests
from crema_core.errors import OptionsError, did_you_mean
from crema_core.fusion import fusion_class
from crema_core.model.settings import ModelSettings
from crema_core.plugins.spec import MMQASpec, parse_settings
from crema_core.train.settings import train_settings

Place = Literal["build", "mmqa", "training"]
Value = str | int | float | None


@dataclass(frozen=True)
class Axis:
    """A choice that can be swept.

    Attributes:
        name: as in `over`.
        place: whose argument it is: `build`'s, its adapter sizes', or `fit`'s.
        key: the argument.
        source: the paper's table; None: a choice that is not in the paper.
        values: tried when none are named; empty: the modalities themselves.
    """

    name: str
    place: Place
    key: str
    source: str | None
    values: tuple[Value, ...]


PAPER_FUSIONS = ("self_gated", "concat", "linear", "cross_attention", "mixture")
"""Strategies of the CREMA paper; others need other backbones."""

AXES = {
    axis.name: axis
    for axis in (
        Axis("fusion", "build", "fusion", "Table 8", PAPER_FUSIONS),
        Axis("major", "build", "major", "Table 20", ()),
        Axis("num_queries", "mmqa", "num_queries", "Table 22", (8, 16, 32, 64)),
        Axis("lora_rank", "mmqa", "lora_rank", "Table 19", (32, 64, 128)),
        Axis("connector", "mmqa", "projection", "Table 21", ("auto", "interpolate")),
        Axis("output_start", "mmqa", "output_start", None, ("copied", "fresh", "zero")),
        Axis("mode", "training", "mode", "Table 17", ("sequential", "joint")),
        Axis("early_exit", "training", "early_exit", "Table 7", (None, 0.8, 0.85, 0.9)),
    )
}


def find_axis(name: str) -> Axis:
    """Return a choice by name.

    Raises:
        OptionsError: for an unknown name.
    """
    if name not in AXES:
        raise OptionsError(
            f"'{name}' is no choice to sweep. Choices: {', '.join(AXES)}.{did_you_mean(name, AXES)} Name one of these."
        )
    return AXES[name]


def check_values(
    axis: Axis,
    values: Sequence[Value],
    modalities: Sequence[ModalityRequest],
    model: ModelSettings,
    settings: Mapping[str, Any],
) -> None:
    """Raise unless every value can be built and trained; nothing heavy is done.

    Raises:
        OptionsError: for a value that cannot be, one named twice, or a modality with a value of its own.
        BuildError: for modalities that cannot be built.
    """
    labels = [value_label(value) for value in values]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if not labels or twice is not None:
        given = f"'{twice}' is listed twice" if labels else "No value is named"
        raise OptionsError(
            f"{given} for {axis.name}. A sweep has one row for each value. Write every value once, or leave the values "
            "out for the default ones."
        )
    for item in modalities:
        if axis.place == "mmqa" and isinstance(item, Mapping) and axis.key in item.get("mmqa", {}):
            raise OptionsError(
                f"'{item['name']}' has a {axis.key} of its own, which a sweep over {axis.name} would not change. "
                "Accepted: modalities that leave it open. Leave it out for this modality, or sweep something else."
            )
    for value in values:
        built, trained = with_value(axis, value, model, settings)
        train_settings(None, trained)
        choose_major(requests_of(modalities, built), built.major)
        if axis.place == "mmqa":
            parse_settings(MMQASpec, built.mmqa, title="mmqa")


def requests_of(modalities: Sequence[ModalityRequest], model: ModelSettings) -> list[Request]:
    """Resolve modalities as `build` does with the same settings; nothing heavy is loaded but the strategy.

    Raises:
        BuildError: for modalities that cannot be built.
        OptionsError: for a fusion nothing provides.
        PluginError: when its package is switched off, broken, or not the only one of this name.
    """
    name, _ = name_and_options(model.fusion, "fusion")
    return resolve_requests(modalities, model.mmqa, extended=fusion_class(name).extended)


def value_label(value: Value) -> str:
    """Return a value as rows and files call it."""
    return "none" if value is None else str(value)


def with_value(
    axis: Axis, value: Value, model: ModelSettings, settings: Mapping[str, Any]
) -> tuple[ModelSettings, dict[str, Any]]:
    """Return the settings of the model and of the training for one value.

    Args:
        axis: the choice.
        value: one it can have.
        model, settings: what is equal for all values.
    """
    if axis.place == "build":
        return model.model_copy(update={axis.key: value}), dict(settings)
    if axis.place == "mmqa":
        return model.model_copy(update={"mmqa": {**model.mmqa, axis.key: value}}), dict(settings)
    return model, {**settings, axis.key: value}
