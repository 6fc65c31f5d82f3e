"""Starting a training from an earlier one: the next stage of a recipe, or further senses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crema_core.errors import CheckpointError
from crema_core.saving.adapters import parts_of
from crema_core.saving.bundle import read_manifest, read_state

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork


@torch.no_grad()
def start_from(model: CremaNetwork, folder: str | Path) -> list[str]:
    """Copy what a saved model has trained; whatever the model has beyond that stays as it was built.

    Args:
        model: built on the same backbone and language model; it may have more senses, and train more of the language
            model than the saved one.
        folder: a saved model.

    Returns:
        Names of the parameters that were set.

    Raises:
        CheckpointError: for an incomplete folder, another backbone or language model, and weights that have no place
            here; nothing is changed then.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    ours = {"identity": model.backbone.identity(), "language_identity": model.backbone.language_identity()}
    for key, what in (("identity", "backbone"), ("language_identity", "language model")):
        if manifest.get(key) != ours[key]:
            raise CheckpointError(
                f"'{place}' was trained with another {what} than this model has. A training starts from one with the "
                f"same. Build the model with the {what} of that one. Nothing was changed."
            )
    state, parameters = read_state(place, manifest), model.trainable_parameters()
    problems = [
        f"unknown: {key}"
        if key not in parameters
        else f"shape: {key} is {tuple(value.shape)}, the model's is {tuple(parameters[key].shape)}"
        for key, value in state.items()
        if key not in parameters or parameters[key].shape != value.shape
    ]
    problems += _other_encoders(model, manifest)
    if problems:
        raise CheckpointError(
            f"This model cannot start from '{place}', {len(problems)} things differ:\n  "
            + "\n  ".join(problems)
            + "\nWhat was trained must have its place. Build the model with the same senses, sizes, encoders and "
            "fusion. Nothing was changed."
        )
    for key, value in state.items():
        parameters[key].copy_(value)
    return list(state)


def _other_encoders(model: CremaNetwork, manifest: Mapping[str, Any]) -> list[str]:
    """Return a line for every sense whose several encoders are others: equal shapes would hide it."""
    own = {entry["name"]: parts_of(model, entry) for entry in model.config["modalities"]}
    saved = {entry["name"]: parts_of(model, entry) for entry in manifest["modalities"] if entry["name"] in own}
    return [
        f"encoders of {name}: {' + '.join(saved[name])}, the model's are {' + '.join(own[name])}"
        for name in saved
        if saved[name] != own[name]
    ]
