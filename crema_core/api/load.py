"""Load a saved model: build it again from what its folder says, then put the trained weights back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.api.requests import resolve_requests
from crema_core.errors import BuildError, CheckpointError, OptionsError
from crema_core.model.settings import ModelSettings
from crema_core.plugins.registry import list_modalities
from crema_core.plugins.spec import with_changes
from crema_core.saving.adapters import warn_of_processing
from crema_core.saving.bundle import fusion_of, missing_parts, read_model_config, read_state


def load(
    folder: str | Path,
    *,
    backbone: str | Path | None = None,
    language_model: str | Path | None = None,
    precision: str | None = None,
    device: str | torch.device | None = None,
) -> CremaModel:
    """Load a model saved by `save_pretrained`; its outputs are identical to the saved model's.

    Args:
        folder: the saved model.
        backbone: where the backbone is now, if it moved; it must have the same weights.
        language_model: where the language model that replaces the backbone's own is now, if it moved; the same weights.
        precision: another precision of the frozen parts than the saved one.
        device: where to put the model.

    Raises:
        CheckpointError: for an incomplete or damaged folder, another backbone or another language model.
        BuildError: when packages are missing, naming the ones that wrote the model.
    """
    place = Path(folder)
    config = read_model_config(place)
    saved = ModelSettings.of_saved(config)
    if language_model is not None and saved.language_model is None:
        raise CheckpointError(
            f"'{place}' was trained with its backbone's own language model, so language_model='{language_model}' has "
            "no place in it. Accepted: nothing but the backbone. Leave language_model out. Nothing was changed."
        )
    requests = [_request(entry) for entry in config["modalities"]]
    if problems := missing_parts(place, config):
        raise BuildError([*problems, *_missing_modalities(place, config["modalities"], requests)])
    changes: dict[str, object] = {"fusion": fusion_of(config)}
    if backbone is not None:
        changes |= {"backbone": backbone, "revision": None}
    if language_model is not None:
        changes |= {"language_model": language_model, "language_revision": None}
    if precision is not None:
        changes["precision"] = precision
    settings = with_changes(saved, changes, title="load")
    try:
        model = build(requests, settings)
    except BuildError as error:
        raise BuildError([*error.problems, _what_it_needs(place, config["modalities"])]) from error
    if model.backbone.identity() != config["identity"]:
        raise CheckpointError(
            f"'{place}' was trained on other weights than {settings.source!r} has now. A model fits "
            "the backbone it was trained on. Pass backbone='...' with the original weights. Nothing was changed."
        )
    if model.backbone.language_identity() != config.get("language_identity"):
        raise CheckpointError(
            f"'{place}' was trained with another language model than {settings.language_model!r} is now. "
            f"A model fits the language model it was trained with, {saved.language_model!r}. Pass "
            "language_model='...' with the original weights. Nothing was changed."
        )
    model.load_adapter_state_dict(read_state(place, config))
    warn_of_processing(model, place, config)
    if "gain" in config:
        model.config["gain"] = model.language.gain = config["gain"]
    return model.to(device) if device is not None else model


def _missing_modalities(
    place: Path, entries: Sequence[Mapping[str, Any]], requests: Sequence[dict[str, Any]]
) -> list[Exception | str]:
    try:
        resolve_requests(requests, {})
    except BuildError as error:
        # Options are refused too where a part that is missing would have declared them.
        found = [problem for problem in error.problems if not isinstance(problem, OptionsError)]
        return [*found, _what_it_needs(place, entries)] if found else []
    return []


def _what_it_needs(place: Path, entries: Sequence[Mapping[str, Any]]) -> str:
    packages = sorted({f"{entry['distribution']} {entry['version']}" for entry in entries if entry["distribution"]})
    by_hand = [entry["name"] for entry in entries if not entry["distribution"]]
    text = f"'{place}' was saved with: {', '.join(packages) or 'no package'}. Install what is missing with pip."
    if by_hand:
        text += (
            f" The specs of {', '.join(by_hand)} were given by hand. Give them again first: "
            "crema_core.registry.register(SPEC)."
        )
    return text


def _request(entry: dict[str, Any]) -> dict[str, Any]:
    # Where several installed packages provide the name, the one that wrote the model is meant.
    rivals = [record for record in list_modalities() if record.name == entry["name"] and record.status == "duplicate"]
    reference = f"{entry['distribution']}:{entry['name']}" if rivals else entry["name"]
    return {"name": reference, "mmqa": entry["mmqa"], "prefix": entry["prefix"], **entry["options"]}
