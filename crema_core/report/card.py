"""The model card: a README.md beside a saved model that states what it is, what it needs and how it did."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import crema_core
from crema_core.api.describe import Description, describe_model
from crema_core.api.model import CremaModel
from crema_core.common.atomic import write_text
from crema_core.errors import OptionsError
from crema_core.model.backbone import ALONE
from crema_core.model.template import PromptTemplate
from crema_core.model.tuning import FULL

CARD = "README.md"
_MARKS = re.compile(r"[\\`*\[\]|]")
"""What Markdown reads as code, emphasis, a link or the end of a cell."""


def write_card(
    folder: Path,
    model: CremaModel,
    *,
    metrics: Mapping[str, float] | None = None,
    description: Description | None = None,
) -> Path:
    """Write the card into the folder of a saved model.

    Args:
        folder: where `model.save_pretrained` wrote.
        model: the saved model.
        metrics: name -> value in 0..1.
        description: sizes and cost, where they are known already.
    """
    write_text(folder / CARD, model_card(model, name=folder.name, metrics=metrics, description=description))
    return folder / CARD


def model_card(
    model: CremaModel, *, name: str, metrics: Mapping[str, float] | None = None, description: Description | None = None
) -> str:
    """Return the card as Markdown; only settings that are not the default are named.

    Args:
        model: a built model.
        name: of the folder it is saved in.
        metrics: name -> value in 0..1.
        description: sizes and cost, where they are known already; counting them runs the model.
    """
    description = description or describe_model(model)
    parts = [
        f"# {_plain(name)}",
        _what_it_is(model),
        "## Modalities",
        _modalities(model, description),
        "## How to use it",
        _snippet(model, name),
    ]
    changed = _changed(model)
    if changed:
        parts += [
            "## Settings that are not the default",
            "\n".join(f"- {_plain(key)}: {_code(str(value))}" for key, value in changed),
        ]
    if metrics:
        parts += ["## Results", "\n".join(f"- {_plain(key)}: {value:.1%}" for key, value in metrics.items())]
    parts += ["## Size and cost", _block(str(description))]
    return "\n\n".join(parts) + "\n"


def _what_it_is(model: CremaModel) -> str:
    alone = model.backbone.source == ALONE
    source = model.config["language_model"]["source"] if alone else model.backbone.source
    what = "language model" if alone else "backbone"
    frozen = "" if alone and model.backbone.tuning == FULL else "frozen "
    tuned = " What was trained of the language model is contained." if model.language_parameters() else ""
    return (
        f"Adapters for the {frozen}{what} {_code(str(source))}, written by crema-core {crema_core.__version__}. "
        f"The {what} is not contained.{tuned}"
    )


def _modalities(model: CremaModel, description: Description) -> str:
    counts = {row.name: row.trainable for row in description.components}
    lines = ["| modality | package | version | trained parameters |", "|---|---|---|---|"]
    for name in model.names:
        origin = model.branch(name).provenance
        package = origin.distribution or "given as a ModalitySpec"
        cells = (name, package, origin.version or "-", f"{counts[name]:,}")
        lines.append(f"| {' | '.join(map(_plain, cells))} |")
    return "\n".join(lines)


def _snippet(model: CremaModel, name: str) -> str:
    packages = sorted({model.branch(own).provenance.distribution for own in model.names} - {""})
    sources = ", ".join(f'{own}="..."' for own in model.names[:3])
    lines = (
        f"import crema_core\n\nmodel = crema_core.load({json.dumps(name)})\n"
        f'answer = model.answer("...?", {sources})  # any of the modalities above\nprint(answer.text)'
    )
    return f"{_block('pip install ' + ' '.join(packages or ['crema-core']))}\n\n{_block(lines, language='python')}"


def _plain(text: str) -> str:
    """Return a text of others as Markdown that shows it: one line, without tags, links or columns of its own."""
    line = escape(" ".join(text.split()), quote=False)
    return _MARKS.sub(r"\\\g<0>", line)


def _code(text: str) -> str:
    """Return a text of others as a piece of code of one line, between more backticks than it has itself."""
    line = " ".join(text.split())
    fence = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _block(text: str, *, language: str = "") -> str:
    """Return lines as a block of code that none of them ends."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _changed(model: CremaModel) -> list[tuple[str, Any]]:
    config = model.config
    found: list[tuple[str, Any]] = []
    if config["language_model"] is not None:
        found.append(("language_model", config["language_model"]["source"]))
    if config.get("tuning") is not None:
        found.append(("tuning", config["tuning"]))
    if config["fusion"] != {"name": "self_gated"}:
        found.append(("fusion", config["fusion"]))
    wording = PromptTemplate(**model.backbone.template).model_dump()
    found += [(f"template.{key}", value) for key, value in config["template"].items() if value != wording[key]]
    own: dict[str, dict[str, Any]] = {
        entry["name"]: _changed_in_modality(model, entry) for entry in config["modalities"]
    }
    first = next(iter(own.values()))
    common = {key: value for key, value in first.items() if all(values.get(key) == value for values in own.values())}
    if len(own) > 1:
        found += [(f"every modality: {key}", value) for key, value in common.items()]
        own = {name: {key: values[key] for key in values if key not in common} for name, values in own.items()}
    return found + [(f"{name}.{key}", value) for name, values in own.items() for key, value in values.items()]


def _changed_in_modality(model: CremaModel, entry: Mapping[str, Any]) -> dict[str, Any]:
    spec = model.branch(entry["name"]).spec
    sizes = spec.mmqa.model_dump()
    try:
        options = spec.parse_options(None).model_dump(mode="json")
    except OptionsError:  # an option without default: then all are named
        options = {}
    changed = {key: value for key, value in entry["options"].items() if key not in options or value != options[key]}
    if entry["prefix"] != spec.prefix:
        changed["prefix"] = entry["prefix"]
    return changed | {f"mmqa.{key}": value for key, value in entry["mmqa"].items() if value != sizes[key]}
