"""Released CREMA checkpoints to models of this package, and back.

A released file holds the trained weights of all its modalities, one fusion matrix over channel-concatenated modalities,
and by accident some frozen ones. `load_released` puts the trained part into a built model; saving it then writes
adapter folders. `export_released` is the way back.

`AdapterKeys` says under which names the trained weights of one modality stand there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from crema_core.api.model import CremaModel
from crema_core.common.tensors import copy_state
from crema_core.errors import CheckpointError

FUSION = "fusion.0"
_FROZEN_KEY = re.compile(r"^(\w+_encoder|ln_vision|Qformer|t5_model|opt_model|query_tokens)\.(?!.*\.w_[ab]_)")


def load_released(model: CremaModel, state: Mapping[str, Tensor]) -> list[str]:
    """Put a released checkpoint's trained weights into a model built with the same modalities and sizes.

    Args:
        model: built with the checkpoint's modalities in its order; each modality's package declares its released name.
        state: from `crema_core.common.tensors.read_released`.

    Returns:
        Released keys that were left aside because this package has no use for them (frozen or never used weights).

    Raises:
        CheckpointError: listing every missing, unknown and wrongly shaped key; nothing is changed then.
    """
    tables = {name: _keys(model, name) for name in model.names}
    wanted = {
        f"modalities.{name}.{ours}": theirs for name, keys in tables.items() for ours, theirs in keys.table().items()
    }
    fusion, fusion_keys = _fusion_blocks(model, state)
    problems = [f"missing: {theirs}" for theirs in wanted.values() if theirs not in state]
    problems += [f"missing: {key}" for key in fusion_keys if key not in state]
    used = {*wanted.values(), *fusion_keys}
    # Frozen weights, and of a modality the model has: dead ones and, for points, a LayerNorm that is never applied.
    dead = [key for key in state if _FROZEN_KEY.match(key) or any(own.owns(key) for own in tables.values())]
    aside = [key for key in dead if key not in used]
    problems += [f"unknown: {key}" for key in state if key not in used and key not in aside]
    found = {ours: state[theirs] for ours, theirs in wanted.items() if theirs in state} | fusion
    parameters = model.trainable_parameters()
    problems += [
        f"shape: {wanted.get(key, key)} is {tuple(value.shape)}, the model's is {tuple(parameters[key].shape)}"
        for key, value in found.items()
        if value.shape != parameters[key].shape
    ]
    if problems:
        raise CheckpointError(
            f"The released checkpoint does not fit this model, {len(problems)} keys differ:\n  "
            + "\n  ".join(problems)
            + f"\nThe model has the modalities {', '.join(model.names)} in this order. Build it with the checkpoint's "
            "modalities, sizes and fusion. Nothing was changed."
        )
    rest = {key: value for key, value in parameters.items() if key not in found}
    copy_state(parameters, {**rest, **found})
    return aside


def export_released(model: CremaModel) -> dict[str, Tensor]:
    """Return a model's trained weights under the released names, the inverse of `load_released`."""
    state: dict[str, Tensor] = {}
    for name in model.names:
        parameters = model.adapter_parameters(name)
        for ours, theirs in _keys(model, name).table().items():
            state[theirs] = parameters[ours].detach().clone()
    blocks = [model.fusion.blocks[name] for name in model.fusion.supporting if name in model.fusion.blocks]
    if blocks:
        state[f"{FUSION}.weight"] = torch.cat([block.get_parameter("weight").detach() for block in blocks], dim=1)
        state[f"{FUSION}.bias"] = dict(model.fusion.named_parameters())["bias"].detach().clone()
    return state


def _keys(model: CremaModel, name: str) -> AdapterKeys:
    parameters = model.adapter_parameters(name)
    layers = {key.split(".")[1] for key in parameters if key.startswith("lora.")}
    return AdapterKeys(
        released=model.specs[name].released_name or name,
        num_layers=len(layers),
        has_projection="mmqa.projection.weight" in parameters,
        has_norm="mmqa.norm.weight" in parameters,
    )


def _fusion_blocks(model: CremaModel, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    supporting = [name for name in model.fusion.supporting if name in model.fusion.blocks]
    if not supporting:
        return {}, []
    keys = [f"{FUSION}.weight", f"{FUSION}.bias"]
    if any(key not in state for key in keys):
        return {}, keys
    weight = state[keys[0]]
    blocks = weight.split(weight.shape[1] // len(supporting) or 1, dim=1)
    found = {f"fusion.blocks.{name}.weight": block for name, block in zip(supporting, blocks, strict=False)}
    return {**found, "fusion.bias": state[keys[1]]}, keys


@dataclass(frozen=True)
class AdapterKeys:
    """Names of one modality's trained weights in a released checkpoint."""

    released: str  # the modality's name there
    num_layers: int  # layers of the Q-Former
    has_projection: bool  # whether the modality has an FC (widths differ)
    has_norm: bool  # whether this model's adapter has a LayerNorm

    def table(self) -> dict[str, str]:
        """Return our adapter key -> released key."""
        name = self.released
        keys = {"mmqa.queries": f"query_tokens_{name}"}
        for end in ("weight", "bias"):
            keys[f"mmqa.output.{end}"] = f"t5_proj_{name}.{end}"
            if self.has_norm:
                keys[f"mmqa.norm.{end}"] = f"ln_{name}.{end}"
            if self.has_projection:
                keys[f"mmqa.projection.{end}"] = f"projection_{name}.{end}"
        for layer in range(self.num_layers):
            for part in ("query", "value"):
                stem = f"Qformer.bert.encoder.layer.{layer}.attention.self.{part}"
                keys[f"lora.{layer}.{part}.A"] = f"{stem}.w_a_{name}.weight"
                keys[f"lora.{layer}.{part}.B"] = f"{stem}.w_b_{name}.weight"
        return keys

    def owns(self, key: str) -> bool:
        """Whether a released key belongs to this modality, used or not."""
        name = re.escape(self.released)
        return bool(
            re.search(rf"^(query_tokens_{name}|(ln|t5_proj|projection)_{name}\.\w+|{name}_gradsel_embed)$", key)
            or re.search(rf"\.w_[ab]_{name}\.weight$", key)
        )
