"""Training the language model itself: LoRA through peft, or all of its weights.

CREMA leaves it frozen, which is the default. What is trained here belongs to no sense; it is saved with the model.
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


def add_lora(model: PreTrainedModel, settings: LanguageLora) -> None:
    """Add LoRA to a language model (A Kaiming-uniform, B zero: no change until trained), which stays frozen.

    Raises:
        OptionsError: when no linear layer has one of the names.
    """
    blocks = _linear_names(model)
    names = [name for name in blocks if settings.targets is None or name.endswith(settings.targets)]
    if not names:
        ends = sorted({name.rpartition(".")[2] for name in blocks})
        raise OptionsError(
            f"tuning.targets={list(settings.targets or ())} names no linear layer of this language model. Accepted: "
            f"{', '.join(ends)}. Leave targets out for all of them."
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    freeze(model)


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the matrices `add_lora` added, keyed `<layer>.<A|B>`; A is (rank, in), B (out, rank)."""
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
            found[f"{path}.A"] = module.lora_A[ADAPTER].get_parameter("weight")
            found[f"{path}.B"] = module.lora_B[ADAPTER].get_parameter("weight")
    return found


def train_dropout(model: nn.Module, mode: bool) -> None:
    """Switch the LoRA dropouts on or off."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.lora_dropout.train(mode)


def _linear_names(model: PreTrainedModel) -> list[str]:
    """Return the linear layers inside the blocks; embeddings and output layer are outside of them."""
    found = []
    for path, module in model.named_modules():
        inside = any(part.isdigit() for part in path.split("."))
        if inside and isinstance(module, nn.Linear):
            found.append(path)
    return found
