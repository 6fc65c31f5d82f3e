"""Load a saved model: build it again from what its folder says, then put the trained weights back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.api.requests import name_and_options
from crema_core.api.saved import Extended, is_missing, opened_without, provider_of, saved_request, saved_with
from crema_core.errors import (
    BuildError,
    CheckpointError,
    ModalityWarning,
    OptionsError,
    PluginError,
    Problems,
    RevisionWarning,
    did_you_mean,
)
from crema_core.fusion import fusion_class
from crema_core.model.revisions import REVISIONS, moved, pinned
from crema_core.model.settings import ModelSettings
from crema_core.plugins.spec import with_changes
from crema_core.saving.adapters import as_saved, read_part, warn_of_processing
from crema_core.saving.bundle import fusion_of, left_out_of, missing_parts, read_model_config, read_state
from crema_core.saving.upgrades import compare_features, go_back, package_change, package_of, require_widths


def load(
    folder: str | Path,
    *,
    backbone: str | Path | None = None,
    language_model: str | Path | None = None,
    precision: str | None = None,
    device: str | torch.device | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    without: Sequence[str] = (),
    check_features: bool = True,
) -> CremaModel:
    """Load a model saved by `save_pretrained`; its outputs are identical to the saved model's.

    Args:
        folder: the saved model.
        backbone: where the backbone is now, if it moved; it must have the same weights.
        language_model: where the language model that replaces the backbone's own is now, if it moved; the same weights.
        precision: another precision of the frozen parts than the saved one.
        device: where to put the model.
        options: by modality, options that go before the saved ones, where an upgraded package calls them otherwise:
            `{"radar": {"num_sweeps": 4}}`.
        without: modalities to open the model without, for example because their packages are not installed. It answers
            as from samples that lack them; their trained weights are kept and saved again with the model.
        check_features: compare the features of every modality's example with those of the saved model: an upgrade may
            have changed them. It costs one source through every encoder.

    Raises:
        CheckpointError: for an incomplete or damaged folder, another backbone or another language model, features of
            another width, and, with `CREMA_PLUGINS_STRICT=1`, other features.
        BuildError: when packages are missing or do not take the saved options, naming the ones that wrote the model.
        OptionsError: when `options` or `without` name what the model does not have or cannot be without.
    """
    place = Path(folder)
    config = read_model_config(place)
    saved = ModelSettings.of_saved(config)
    if language_model is not None and saved.language_model is None:
        raise CheckpointError(
            f"'{place}' was trained with its backbone's own language model, so language_model='{language_model}' has "
            "no place in it. Accepted: nothing but the backbone. Leave language_model out. Nothing was changed."
        )
    _check_names(place, config, without, options or {})
    left_out = left_out_of(place, config, without)
    entries = [entry for entry in config["modalities"] if entry["name"] not in without]
    requests = _requests(place, config, entries, options or {}, missing_parts(place, config, without=without))
    changes: dict[str, object] = {"fusion": fusion_of(config)}
    if backbone is not None:
        changes |= {"backbone": backbone, "revision": None}
    if language_model is not None:
        changes |= {"language_model": language_model, "language_revision": None}
    if precision is not None:
        changes["precision"] = precision
    settings = with_changes(saved, changes, title="load")
    try:
        named = str(backbone), str(language_model)  # as they are now
        pins = {hub: own for hub, own in config.get(REVISIONS, {}).items() if hub not in named}
        with pinned(pins):
            model = build(requests, settings)
    except BuildError as error:
        raise BuildError([*error.problems, *saved_with(place, entries, missing=())]) from error
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
    modalities = [as_saved(model, read_part(place, entry["name"])) for entry in entries]
    require_widths(place, modalities)
    state = read_state(place, {**config, "modalities": entries})
    if left_out is not None:
        if not model.fusion.supporting:  # nothing is fused, what all modalities share waits for the others
            shared = {key: state.pop(key).clone() for key in list(state) if key.startswith("fusion.")}
            left_out = replace(left_out, fusion=shared)
        model.left_out = left_out
    _set_state(model, place, state, entries)
    warn_of_processing(model, place, config)
    if "gain" in config:
        model.config["gain"] = model.language.gain = config["gain"]
    if device is not None:
        model.to(device)
    if check_features:
        compare_features(place, modalities)
    if without:
        _say_without(place, model)
    if changed := moved(pins):
        warnings.warn(
            f"'{place}': {'; '.join(changed)} since it was saved. The recorded commit is read, so that its answers "
            "stay the same. To use what is there now, build a model and train it.",
            RevisionWarning,
            stacklevel=2,
        )
    return model


def _requests(
    place: Path,
    config: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
    missing: Sequence[str],
) -> list[dict[str, Any]]:
    """Return what `build` is asked for, or one error for all modalities and the `missing` parts of other kinds."""
    problems, requests = Problems(), []
    absent: list[str] = []
    unusable: list[str] = []
    problems.found.extend(missing)
    # Options are refused too where a part that is missing would have declared them: they are looked at without any.
    extended = None if missing else _extended(config)
    for entry in entries:
        name = entry["name"]
        try:
            if extended is None:
                provider_of(entry).load()
                continue
            remedy = f"load(..., options={{'{name}': {{...}}}})"
            changes = options.get(name)
            requests.append(saved_request(place, entry, changes=changes, extended=extended, remedy=remedy))
        except PluginError as error:
            problems.found.append(error)
            (absent if is_missing(error) else unusable).append(name)
        except OptionsError as error:
            problems.found.append(error)
    if absent:
        without = [] if config["major"] in absent else absent
        problems.found += saved_with(place, entries, missing=absent, without=without)
    if unusable and config["major"] not in unusable:
        problems.found.append(f"Or leave '{place}' as it is and {opened_without([*absent, *unusable])}")
    problems.raise_found()
    return requests


def _extended(config: Mapping[str, Any]) -> Extended:
    name, _ = name_and_options(fusion_of(config), "fusion")
    return fusion_class(name).extended


def _check_names(
    place: Path, config: Mapping[str, Any], without: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise for names of `without` and `options` that mean nothing."""
    names = [entry["name"] for entry in config["modalities"]]
    if isinstance(without, str):
        raise OptionsError(f"without={without!r} is one name. Accepted: a list of names. Write without=[{without!r}].")
    for argument, given in (("without", without), ("options", options)):
        for name in given:
            if name not in names:
                raise OptionsError(
                    f"{argument} names '{name}', which '{place}' does not have. It has: {', '.join(names)}."
                    f"{did_you_mean(name, names)} Correct the name, or leave it out."
                )
    if config["major"] in without:
        raise OptionsError(
            f"'{config['major']}' is the major modality of '{place}', and the others are fused on its frames. "
            f"Accepted: {', '.join(name for name in names if name != config['major']) or 'none'}. Install its package."
        )


def _set_state(
    model: CremaModel, place: Path, state: dict[str, torch.Tensor], entries: Sequence[Mapping[str, Any]]
) -> None:
    try:
        model.load_adapter_state_dict(state)
    except CheckpointError as error:
        changed = []
        for entry in entries:
            own = model.branch(entry["name"]).provenance
            if (own.distribution, own.version) != (entry["distribution"], entry["version"]):
                change = package_change(entry, distribution=own.distribution, version=own.version)
                changed.append(f"{change} ({entry['name']}). {go_back(entry)}.")
        if not changed:
            raise
        raise CheckpointError(f"{error} Since '{place}' was saved its packages changed: {' '.join(changed)}") from error


def _say_without(place: Path, model: CremaModel) -> None:
    assert model.left_out is not None
    packages = [f"'{name}' ({package_of(own.entry)})" for name, own in model.left_out.modalities.items()]
    warnings.warn(
        f"'{place}' is opened without {', '.join(packages)}: it takes no sources of these, and every question is "
        f"answered from {', '.join(model.names)} alone. What was trained of them is kept as it is, and saved again "
        "with the model.",
        ModalityWarning,
        stacklevel=3,
    )
