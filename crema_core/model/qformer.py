"""The frozen Q-Former with one named LoRA per sense: the only module that talks to peft.

LoRA sits on query and value of every self-attention layer, none in cross-attention (CREMA section 3.2, equation 1).
Adapter names get an internal prefix because peft uses them as module keys, where `train` or `keys` break.

Shape letters: M steps of all samples, N feature tokens, E their width, Q queries, H Q-Former width.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import Blip2QFormerModel

from crema_core.model.trainable import freeze
from crema_core.plugins.spec import MMQASpec

TARGET = r"encoder\.layer\.\d+\.attention\.attention\.(query|value)"
_PLACE = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|value)$")


def adapter_name(modality: str) -> str:
    """Return the name under which a modality's LoRA is known to peft."""
    return f"m_{modality}"


class QFormer(nn.Module):
    """Shared Q-Former; `forward` names the sense whose LoRA takes part.

    Args:
        model: a BLIP-2 Q-Former from transformers.
    """

    def __init__(self, model: Blip2QFormerModel) -> None:
        super().__init__()
        self.model = model
        self._layers: list[tuple[str, LoraLayer]] = []

    @property
    def hidden_size(self) -> int:
        """Width H of the queries."""
        return int(self.model.config.hidden_size)

    @property
    def encoder_width(self) -> int:
        """Width E of the features it attends to."""
        return int(self.model.config.encoder_hidden_size)

    def add_lora(self, modality: str, spec: MMQASpec) -> None:
        """Add a LoRA (A Kaiming-uniform, B zero: no change until trained); draws from torch's global generator."""
        config = LoraConfig(
            r=spec.lora_rank,
            lora_alpha=spec.lora_alpha or spec.lora_rank,  # type: ignore[arg-type]  # scale alpha/r may be fractional
            lora_dropout=spec.lora_dropout,
            target_modules=TARGET,
            bias="none",
        )
        with warnings.catch_warnings():
            # Several adapters in one model is what is wanted here.
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            inject_adapter_in_model(config, self.model, adapter_name=adapter_name(modality))
        self._layers = []
        freeze(self.model)

    def lora_parameters(self, modality: str) -> dict[str, nn.Parameter]:
        """Return the LoRA matrices of one sense, keyed `<layer>.<query|value>.<A|B>`; A is (rank, H), B (H, rank)."""
        name = adapter_name(modality)
        found: dict[str, nn.Parameter] = {}
        for place, layer in self._lora_layers():
            if name in layer.lora_A:
                found[f"{place}.A"] = layer.lora_A[name].get_parameter("weight")
                found[f"{place}.B"] = layer.lora_B[name].get_parameter("weight")
        return found

    def train_lora(self, mode: bool) -> None:
        """Switch the LoRA dropouts on or off; everything frozen stays in eval mode."""
        for _, layer in self._lora_layers():
            layer.lora_dropout.train(mode)

    def forward(self, modality: str, queries_1QH: Tensor, keys_MNE: Tensor, mask_MN: Tensor | None = None) -> Tensor:
        """Let a sense's queries read its features.

        Args:
            modality: whose LoRA is active.
            queries_1QH: `(1, Q, H)`.
            keys_MNE: `(M, N, E)`.
            mask_MN: `(M, N)` bool, False for padded feature tokens; None when there are none.

        Returns:
            `(M, Q, H)`.
        """
        self._activate(adapter_name(modality))
        output = self.model(
            query_embeds=queries_1QH.expand(keys_MNE.shape[0], -1, -1),
            encoder_hidden_states=keys_MNE,
            encoder_attention_mask=None if mask_MN is None else mask_MN.to(torch.int64),
        )
        hidden_MQH: Tensor = output.last_hidden_state
        return hidden_MQH

    def _activate(self, name: str) -> None:
        # peft's set_adapter() also rewrites requires_grad, which would drop gradients of a graph already built for
        # another sense; only the list of active names is needed.
        for _, layer in self._lora_layers():
            layer._active_adapter = [name]

    def _lora_layers(self) -> Iterator[tuple[str, LoraLayer]]:
        if not self._layers:
            for path, module in self.model.named_modules():
                place = _PLACE.search(path)
                if place and isinstance(module, LoraLayer):
                    self._layers.append((f"{place[1]}.{place[2]}", module))
        return iter(self._layers)
