"""LoRA inside frozen models, and the training of the language model itself: the only module that talks to peft.

CREMA leaves the language model frozen, which is the default. What is trained of it, a LoRA or all of its weights,
belongs to no modality; it is saved with the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer, ParamWrapper
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers import PreTrainedModel

from crema_core.errors import OptionsError
from crema_core.model.precision import keep_full
from crema_core.model.trainable import freeze
from crema_core.plugins.spec import parse_settings

ADAPTER = "language"
FULL: Literal["full"] = "full"
EXPERT_DIMENSIONS = 3
"""Of a weight with a matrix for each expert."""
MAMBA_CALLED = "in_proj"
"""The layer of a Mamba mixer that is called whatever the kernels."""


class LanguageLora(BaseModel):
    """LoRA on the language model; the defaults are those of PAVE's released training configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rank: int = Field(default=64, ge=1, description="of the low-rank matrices")
    alpha: int = Field(default=16, ge=1, description="scale; what LoRA adds is multiplied by alpha / rank")
    dropout: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="on the input of the low-rank matrices, in training; those of a mixture's experts have none",
    )
    targets: tuple[str, ...] | None = Field(
        default=None,
        description="ends of names of linear layers, and of the weights of experts; None: every linear layer and "
        "expert of every block",
    )


def parse_tuning(tuning: Any) -> LanguageLora | Literal["full"] | None:
    """Check what was asked for.

    Raises:
        OptionsError: for anything but "full", settings of a LoRA, or None.
    """
    if tuning is None or tuning == FULL:
        return FULL if tuning == FULL else None
    if isinstance(tuning, LanguageLora):
        return tuning
    if not isinstance(tuning, Mapping):
        raise OptionsError(
            f"tuning={tuning!r} says nothing about the language model. Accepted: None (frozen), 'full', or settings of "
            "a LoRA. Write tuning={'rank': 64, 'alpha': 16}."
        )
    return parse_settings(LanguageLora, dict(tuning), title="tuning")


def tune_language(
    model: PreTrainedModel, settings: LanguageLora, *, within: str = "", outside: tuple[str, ...] = ()
) -> None:
    """Add a LoRA to a language model, which stays frozen, see `add_lora`.

    Of a Mamba mixer only the layer it calls as one (`in_proj`) gets a LoRA: its kernels are given the weights of the
    others, past any LoRA.

    Args:
        model: the language model, or a model it is a part of.
        settings: of the LoRA.
        within: start of the names of its layers, where it is a part.
        outside: starts of the names of what lies inside it and gets none.

    Raises:
        OptionsError: when no linear layer has one of the names.
    """
    # The layers inside the blocks; embeddings and output layer are outside of them.
    # A layer the checkpoint has a LoRA on counts as one: the layers inside it are not its blocks' own.
    wrapped = lora_layers(model)
    inside = tuple(f"{path}." for path in wrapped)
    modules = {
        path: module
        for path, module in model.named_modules()
        if path.startswith(within)
        and not path.startswith((*inside, *outside))
        and any(part.isdigit() for part in path.split("."))
    }
    bare = tuple(
        f"{path}.{name}"
        for path, module in modules.items()
        if _is_mamba_mixer(module)
        for name, _ in module.named_children()
        if name != MAMBA_CALLED
    )
    linear = [path for path, own in modules.items() if (path in wrapped or _is_linear(own)) and path not in bare]
    experts = [f"{path}.{own}" for path, module in modules.items() if path not in wrapped for own in _experts(module)]

    def wanted(names: list[str]) -> list[str]:
        return [name for name in names if settings.targets is None or name.endswith(settings.targets)]

    if not wanted(linear) and not wanted(experts):
        ends = sorted({name.rpartition(".")[2] for name in (*linear, *experts)})
        raise OptionsError(
            f"tuning.targets={list(settings.targets or ())} names no linear layer of this language model that takes a "
            f"LoRA. Accepted: {', '.join(ends)}. Leave targets out for all of them."
        )
    whole, start = _WithoutConfig(model), f"{_WithoutConfig.NAME}."
    for names, weights, dropout in ((wanted(linear), [], settings.dropout), ([], wanted(experts), 0.0)):
        if names or weights:
            add_lora(
                whole,
                ADAPTER,
                targets=[start + name for name in names],
                experts=[start + name for name in weights] or None,
                rank=settings.rank,
                alpha=settings.alpha,
                dropout=dropout,
            )
    for layer in lora_layers(model).values():
        layer._active_adapter = list(layer.lora_A)  # the checkpoint's own goes on taking part; peft switches it off


class _WithoutConfig(nn.Module):
    """A model without the configuration by which peft takes names of layers for those of an earlier transformers.

    Where the layers of a mixture of experts had other names there, it would put LoRAs elsewhere than on what is named.
    """

    NAME = "whole"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.whole = model

    def __getattr__(self, name: str) -> Any:
        if name in ("config", self.NAME):
            return super().__getattr__(name)
        return getattr(super().__getattr__(self.NAME), name)


def _is_linear(module: nn.Module) -> bool:
    """Whether a module maps one tensor to one; a family's own kind of layer may return more (Llama 4's router)."""
    return isinstance(module, nn.Linear) and not type(module).__module__.startswith("transformers.models.")


def _is_mamba_mixer(module: nn.Module) -> bool:
    """Whether a module is a selective state space: its decay `A_log` and skip `D` are parameters of its own.

    peft knows such models by a list of model types; gated delta networks, which call all their layers, have no `D`.
    """
    return {"A_log", "D"} <= {name for name, _ in module.named_parameters(recurse=False)}


def _experts(module: nn.Module) -> list[str]:
    """Return the names of a module's weights that have one matrix for each expert."""
    if isinstance(module, _ConvNd):
        return []
    return [name for name, own in module.named_parameters(recurse=False) if own.dim() == EXPERT_DIMENSIONS]


def add_lora(
    model: nn.Module,
    name: str,
    *,
    targets: str | list[str],
    rank: int,
    alpha: float,
    dropout: float,
    experts: list[str] | None = None,
) -> None:
    """Add a LoRA (A Kaiming-uniform, B zero: no change until trained) and freeze all of `model`.

    Draws from torch's global generator.

    Args:
        model: which may have others already.
        name: a key of modules, which some words cannot be (`train`, `keys`).
        targets: names of linear layers, or a pattern they match as a whole.
        rank, alpha: what it adds is multiplied by alpha / rank.
        dropout: on its input, in train mode.
        experts: names of weights `(experts, rows, columns)`; a matrix of each gets its own low-rank ones.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # the scale may be fractional
        lora_dropout=dropout,
        target_modules=targets,
        target_parameters=experts,
        bias="none",
    )
    with warnings.catch_warnings():
        # Several adapters in one model are what is wanted here.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(config, model, adapter_name=name)
    for layer in lora_layers(model).values():  # peft makes them of the number format of the frozen layer
        keep_full(*(own[name] for own in (layer.lora_A, layer.lora_B) if name in own))
    freeze(model)


def lora_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """Return the layers of `model` that LoRAs were added to, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoraLayer)}


def lora_parameters(layers: Mapping[str, LoraLayer], name: str = ADAPTER) -> dict[str, nn.Parameter]:
    """Return the matrices of one LoRA, keyed `<layer>.<A|B>`; A is (rank, in), B (out, rank).

    Those of experts have the name of their weight, `<layer>.<weight>.<A|B>`, and as many ranks for each expert.
    """
    found = {}
    for place, layer in layers.items():
        path = place
        if isinstance(layer, ParamWrapper):  # one around the other, where a layer has several such weights
            path = f"{place.replace('.base_layer', '')}.{layer.parameter_name}"
        if name in layer.lora_A:
            found[f"{path}.A"] = layer.lora_A[name].get_parameter("weight")
            found[f"{path}.B"] = layer.lora_B[name].get_parameter("weight")
    return found


def train_dropout(layers: Mapping[str, LoraLayer], mode: bool) -> None:
    """Switch the LoRA dropouts on or off; everything frozen stays in eval mode."""
    for layer in layers.values():
        layer.lora_dropout.train(mode)
