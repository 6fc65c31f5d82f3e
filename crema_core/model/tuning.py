"""LoRA inside frozen models, and the training of the language model itself: the only module that talks to peft.

CREMA leaves the language model frozen, which is the default. What is trained of it, a LoRA or all of its weights,
belongs to no modality; it is saved with the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from transformers import PreTrainedModel

from crema_core.errors import OptionsError
from crema_core.model.trainable import freeze
from crema_core.plugins.spec import parse_settings

ADAPTER = "language"
FULL: Literal["full"] = "full"
Tuning = Literal["full"] | Mapping[str, Any] | None


class LanguageLora(BaseModel):
    """LoRA on the language model; the defaults are those of PAVE's released training configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=64, ge=1, description="of the low-rank matrices")
    alpha: int = Field(default=16, ge=1, description="scale; what LoRA adds is multiplied by alpha / rank")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="on the input of the low-rank matrices, in training")
    targets: tuple[str, ...] | None = Field(
        default=None, description="ends of names of linear layers; None: every linear layer of every block"
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


def tune_language(model: PreTrainedModel, settings: LanguageLora, *, within: str = "") -> None:
    """Add a LoRA to a language model, which stays frozen, see `add_lora`.

    Args:
        model: the language model, or a model it is a part of.
        settings: of the LoRA.
        within: start of the names of its layers, where it is a part.

    Raises:
        OptionsError: when no linear layer has one of the names.
    """
    # The layers inside the blocks; embeddings and output layer are outside of them.
    # A layer the checkpoint has a LoRA on counts as one: the layers inside it are not its blocks' own.
    wrapped = lora_layers(model)
    inside = tuple(f"{path}." for path in wrapped)
    blocks = [
        path
        for path, module in model.named_modules()
        if (path in wrapped or (isinstance(module, nn.Linear) and not path.startswith(inside)))
        and any(part.isdigit() for part in path.split("."))
        and path.startswith(within)
    ]
    names = [name for name in blocks if settings.targets is None or name.endswith(settings.targets)]
    if not names:
        ends = sorted({name.rpartition(".")[2] for name in blocks})
        raise OptionsError(
            f"tuning.targets={list(settings.targets or ())} names no linear layer of this language model. Accepted: "
            f"{', '.join(ends)}. Leave targets out for all of them."
        )
    add_lora(model, ADAPTER, targets=names, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)
    for layer in lora_layers(model).values():
        layer._active_adapter = list(layer.lora_A)  # the checkpoint's own goes on taking part; peft switches it off


def add_lora(
    model: PreTrainedModel, name: str, *, targets: str | list[str], rank: int, alpha: float, dropout: float
) -> None:
    """Add a LoRA (A Kaiming-uniform, B zero: no change until trained) and freeze all of `model`.

    Draws from torch's global generator.

    Args:
        model: which may have others already.
        name: a key of modules, which some words cannot be (`train`, `keys`).
        targets: names of linear layers, or a pattern they match as a whole.
        rank, alpha: what it adds is multiplied by alpha / rank.
        dropout: on its input, in train mode.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # the scale may be fractional
        lora_dropout=dropout,
        target_modules=targets,
        bias="none",
    )
    with warnings.catch_warnings():
        # Several adapters in one model are what is wanted here.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(config, model, adapter_name=name)
    freeze(model)


def lora_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """Return the layers of `model` that LoRAs were added to, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoraLayer)}


def lora_parameters(layers: Mapping[str, LoraLayer], name: str = ADAPTER) -> dict[str, nn.Parameter]:
    """Return the matrices of one LoRA, keyed `<layer>.<A|B>`; A is (rank, in), B (out, rank)."""
    found = {}
    for path, layer in layers.items():
        if name in layer.lora_A:
            found[f"{path}.A"] = layer.lora_A[name].get_parameter("weight")
            found[f"{path}.B"] = layer.lora_B[name].get_parameter("weight")
    return found


def train_dropout(layers: Mapping[str, LoraLayer], mode: bool) -> None:
    """Switch the LoRA dropouts on or off; everything frozen stays in eval mode."""
    for layer in layers.values():
        layer.lora_dropout.train(mode)
