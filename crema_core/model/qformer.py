"""The frozen Q-Former with one named LoRA per modality that has one.

LoRA sits on query and value of every self-attention layer, none in cross-attention (CREMA section 3.2, equation 1).
InstructBLIP's Q-Former also reads the question: its tokens pass the same self-attention, LoRA included, and a
feed-forward of their own. Adapter names get an internal prefix because peft uses them as module keys, where `train` or
`keys` break.

Shape letters: M steps of all samples, N feature tokens, E their width, Q queries, H Q-Former width,
B samples, P tokens of a question.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import Blip2QFormerModel, InstructBlipQFormerModel, PreTrainedTokenizerBase

from crema_core.common.known import to_device
from crema_core.fusion.connector import QFormerText
from crema_core.model.prompt import padded
from crema_core.model.token_ids import token_ids
from crema_core.model.trainable import fingerprint, held
from crema_core.model.tuning import add_lora, lora_layers, lora_parameters, train_dropout
from crema_core.plugins.spec import MMQASpec

TARGET = r"encoder\.layer\.(\d+)\.attention\.attention\.(query|value)"
_PLACE = re.compile(TARGET + "$")


def adapter_name(modality: str) -> str:
    """Return the name under which a modality's LoRA is known to peft."""
    return f"m_{modality}"


class QFormer(nn.Module):
    """Shared Q-Former; `forward` names the modality whose LoRA takes part.

    Args:
        model: a BLIP-2 or InstructBLIP Q-Former from transformers.
        tokenizer: of a Q-Former that reads text (InstructBLIP's); None for BLIP-2's.
        fresh: whether it is new; its weights are then trained as part of the first modality that passes it.

    Attributes:
        owner: that modality; None: it is frozen, or nothing passes it yet.
    """

    def __init__(
        self,
        model: Blip2QFormerModel | InstructBlipQFormerModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.fresh = model, tokenizer, fresh
        self.owner: str | None = None
        self._mixed: tuple[str, ...] = ()  # modalities whose LoRAs take part together, see `mixing`
        self._layers: dict[str, LoraLayer] | None = None

    @property
    def hidden_size(self) -> int:
        """Width H of the queries."""
        return int(self.model.config.hidden_size)

    @property
    def encoder_width(self) -> int:
        """Width E of the features it attends to."""
        return int(self.model.config.encoder_hidden_size)

    def add_lora(self, modality: str, spec: MMQASpec) -> None:
        """Add a LoRA (A Kaiming-uniform, B zero: no change until trained); draws from torch's global generator.

        With rank 0 there is none: the modality passes the Q-Former as it is (`<modality>-skip` of the released code).
        """
        name, rank, dropout = adapter_name(modality), spec.lora_rank, spec.lora_dropout
        if rank:
            alpha = spec.lora_alpha or rank
            add_lora(self.model, name, targets=TARGET, rank=rank, alpha=alpha, dropout=dropout)
        self._layers = None
        if self.fresh and self.owner is None:
            self.owner = modality

    def individual(self, modality: str) -> QFormer:
        """Return a copy as it is before any LoRA, which belongs to a modality and is trained with it."""
        assert not self.has_lora, "build() refuses a backbone object that carries adapters"
        own = QFormer(copy.deepcopy(self.model), self.tokenizer, fresh=True)
        own.owner = modality
        return own

    @property
    def has_lora(self) -> bool:
        """Whether any modality has a LoRA in it."""
        return bool(self._lora_layers())

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return its weights without any LoRA, by name."""
        return {
            name.replace(".base_layer", ""): own for name, own in self.model.named_parameters() if ".lora_" not in name
        }

    def identity(self) -> str | None:
        """Return a sha256 of a new Q-Former's weights as they are now; None of a frozen one, the backbone's own."""
        return fingerprint(self.model) if self.fresh else None

    def lora_parameters(self, modality: str) -> dict[str, nn.Parameter]:
        """Return the LoRA matrices of one modality by `<layer>.<query|value>.<A|B>`; A is (rank, H), B (H, rank)."""
        return lora_parameters(self._lora_layers(), adapter_name(modality))

    def train_lora(self, mode: bool) -> None:
        """Switch the LoRA dropouts on or off; everything frozen stays in eval mode."""
        train_dropout(self._lora_layers(), mode)

    def read(self, questions: Sequence[str]) -> QFormerText:
        """Tokenise questions for a Q-Former that reads text; `(B, P)`, on the Q-Former's device.

        A question longer than its position embeddings (512 tokens) loses its end, with a warning.
        """
        assert self.tokenizer is not None, "only a Q-Former with a tokenizer reads text"
        most = int(self.model.config.max_position_embeddings)
        rows = [token_ids(self.tokenizer, question, add_special_tokens=True) for question in questions]
        longest = max(map(len, rows))
        if longest > most:
            warnings.warn(
                f"A question has {longest} tokens, the Q-Former reads {most}: it does not see the rest. The language "
                "model does. Shorten the question, or build with template={'qformer_input': 'queries'}.",
                stacklevel=2,
            )
            rows = [row[:most] for row in rows]
        ids, mask = padded(rows)
        device = next(self.model.parameters()).device
        return QFormerText(to_device(ids, device), to_device(mask, device))

    def forward(
        self,
        modality: str,
        queries_1QH: Tensor,
        keys_MNE: Tensor,
        mask_MN: Tensor | None = None,
        text: QFormerText | None = None,
    ) -> Tensor:
        """Let a modality's queries read its features.

        Args:
            modality: whose LoRA is active, if it has one.
            queries_1QH: `(1, Q, H)`.
            keys_MNE: `(M, N, E)`.
            mask_MN: `(M, N)` bool, False for padded feature tokens; None when there are none.
            text: M questions, which queries and text tokens attend to in self-attention; None: queries alone.

        Returns:
            `(M, Q, H)`.
        """
        # peft's set_adapter() also rewrites requires_grad, which would drop gradients of a graph already built for
        # another modality; only the list of active names is needed.
        for layer in self._lora_layers().values():
            layer._active_adapter = [adapter_name(own) for own in self._mixed or (modality,)]
        # A new Q-Former is trained with its owner alone.
        others = self.own_parameters().values() if self.fresh and modality != self.owner else ()
        with held(others):
            output = self._run(queries_1QH, keys_MNE, mask_MN, text)
        hidden_MQH: Tensor = output.last_hidden_state[:, : queries_1QH.shape[1]]
        return hidden_MQH

    @contextmanager
    def mixing(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside the block, let the LoRAs of several modalities take part in every pass as a mixture of experts.

        Args:
            weights: by modality `(M,)`, what its LoRA adds in each of M samples is multiplied with.
        """
        layers = list(self._lora_layers().values())
        before = [dict(layer.scaling) for layer in layers]
        self._mixed = tuple(weights)
        try:
            for layer in layers:
                for modality, weight_M in weights.items():
                    name = adapter_name(modality)
                    if name in layer.scaling:
                        layer.scaling[name] = layer.scaling[name] * weight_M[:, None, None]
            yield
        finally:
            self._mixed = ()
            for layer, scaling in zip(layers, before, strict=True):
                layer.scaling.update(scaling)

    def _run(self, queries_1QH: Tensor, keys_MNE: Tensor, mask_MN: Tensor | None, text: QFormerText | None) -> Any:
        return self.model(
            query_embeds=queries_1QH.expand(keys_MNE.shape[0], -1, -1),
            encoder_hidden_states=keys_MNE,
            encoder_attention_mask=None if mask_MN is None else mask_MN.to(torch.int64),
            **self._text_inputs(text, num_queries=queries_1QH.shape[1]),
        )

    def _text_inputs(self, text: QFormerText | None, *, num_queries: int) -> dict[str, Tensor | None]:
        if self.tokenizer is None:
            return {}
        if text is None:
            return {"input_ids": None}
        queries = text.mask.new_ones(text.mask.shape[0], num_queries)
        return {"input_ids": text.ids, "attention_mask": torch.cat([queries, text.mask], dim=1).to(torch.int64)}

    def _lora_layers(self) -> dict[str, LoraLayer]:
        if self._layers is None:
            places = ((_PLACE.search(path), layer) for path, layer in lora_layers(self.model).items())
            self._layers = {f"{place[1]}.{place[2]}": layer for place, layer in places if place}
        return self._layers
