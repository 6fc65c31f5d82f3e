"""From segments and questions to the language model's input embeddings.

Each step of a segment is preceded by its prefix text ("Frame 1: "), the question comes last. Samples differ in which
modalities they have, so what is absent is cut out and the rest moved together: an answer never depends on the other
samples of its batch, although relative positions matter to the language model.

Shape letters: B samples, T steps, K tokens of a step, P tokens of a part (prefix or whole), S prompt length, L
language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from crema_core.common.known import plain, to_device
from crema_core.model.chat_format import ChatFormat
from crema_core.model.token_ids import token_ids
from crema_core.tokens import Segment

SOFT = -1
"""Stands for the id of our tokens while a prompt is laid out."""


class PromptIds(NamedTuple):
    """What a language model reads of a prompt that is given ids, see `crema_core.model.id_language`.

    Attributes:
        ids: `(B, S)` int64.
        placed: `(B, S)` bool, places where the model reads `Prompt.embeds`.
        own: `(B, S)` bool, those of them with the model's own visual tokens.
        kinds: by argument, `(B, S)` int64 given per token.
        inputs: by argument, one tensor for each sample, None for a sample without pictures.
        deep: `(B, S, K * L)` what its first layers add, see `hooks.Visual`; None for most families.
    """

    ids: Tensor
    placed: Tensor
    own: Tensor
    kinds: Mapping[str, Tensor]
    inputs: Mapping[str, Sequence[Tensor | None]]
    deep: Tensor | None

    def select(self, rows: Tensor) -> PromptIds:
        """Return the samples at the positions `rows`, in that order."""
        return PromptIds(
            self.ids[rows],
            self.placed[rows],
            self.own[rows],
            {name: kind[rows] for name, kind in self.kinds.items()},
            {name: [own[row] for row in rows.tolist()] for name, own in self.inputs.items()},
            None if self.deep is None else self.deep[rows],
        )


class Prompt(NamedTuple):
    """Input of the language model."""

    embeds: Tensor  # `(B, S, L)`
    mask: Tensor  # `(B, S)` bool
    ids: PromptIds | None = None  # where it reads ids, and `embeds` at some places alone

    def select(self, rows: Tensor) -> Prompt:
        """Return the samples at the positions `rows`, in that order."""
        return Prompt(self.embeds[rows], self.mask[rows], None if self.ids is None else self.ids.select(rows))


class _Part(NamedTuple):
    """A stretch of the prompt: embeddings `(B, P, L)`, mask and ids `(B, P)`."""

    embeds: Tensor
    mask: Tensor
    ids: Tensor  # `SOFT` where our tokens are


def assemble(
    segments: Sequence[Segment],
    questions: Sequence[str],
    *,
    chat_format: ChatFormat,
    embedding: nn.Module,
    side: Literal["left", "right"] = "right",
    max_question_tokens: int | None = None,
    soft_token: int | None = None,
) -> Prompt:
    """Lay out segments and questions, without gaps.

    Args:
        segments: what the fusion returned, in order.
        questions: B texts.
        chat_format: what surrounds modalities and questions, and the tokenizer of the language model.
        embedding: the language model's input embedding.
        side: where padding goes; "left" for decoder-only generation.
        max_question_tokens: longest question, special tokens included; longer ones lose their end.
        soft_token: id at the places of segments, for a language model that reads ids; None for all others.
    """
    weight: Tensor = next(embedding.parameters())
    parts = [_with_prefix(segment, chat_format.tokenizer, embedding, weight) for segment in segments]
    if chat_format.prefix:
        parts.insert(0, _embed([list(chat_format.prefix)] * len(questions), embedding, weight))
    rows = [chat_format.question_ids(question, max_question_tokens) for question in questions]
    parts.append(_embed(rows, embedding, weight))
    embeds = torch.cat([part.embeds for part in parts], dim=1)
    mask = torch.cat([part.mask for part in parts], dim=1)
    given = None
    if soft_token is not None:
        ids = torch.cat([part.ids for part in parts], dim=1)
        ours = ids == SOFT
        given = PromptIds(ids.masked_fill(ours, soft_token), ours & mask, torch.zeros_like(mask), {}, {}, None)
    return pack(Prompt(embeds, mask, given), side=side)


def pack(prompt: Prompt, *, side: Literal["left", "right"] = "right") -> Prompt:
    """Move the real tokens of every sample together and cut the common padding off."""
    if bool(prompt.mask.all()):
        return prompt
    key = prompt.mask if side == "left" else ~prompt.mask
    order_BS = torch.sort(key.to(torch.uint8), dim=1, stable=True).indices
    length = int(prompt.mask.sum(1).max())
    order_BS = order_BS[:, -length:] if side == "left" else order_BS[:, :length]
    mask = prompt.mask.gather(1, order_BS)
    embeds = prompt.embeds.gather(1, order_BS[:, :, None].expand(-1, -1, prompt.embeds.shape[2]))
    given = prompt.ids
    if given is not None:
        ids, ours, own = (one.gather(1, order_BS) for one in (given.ids, given.placed, given.own))
        given = given._replace(ids=ids, placed=ours, own=own)
    return Prompt(embeds * mask[:, :, None], mask, given)


def _with_prefix(
    segment: Segment,
    tokenizer: PreTrainedTokenizerBase,
    embedding: nn.Module,
    weight: Tensor,
) -> _Part:
    batch, steps, tokens, _ = segment.values.shape
    values = segment.values.to(weight.dtype)
    mask_BTK = segment.mask if segment.mask.dim() == 3 else segment.mask[:, :, None].expand(-1, -1, tokens)
    soft_BTK = torch.full_like(mask_BTK, SOFT, dtype=torch.int64)
    steps_BT = mask_BTK.any(-1)
    if segment.prefix is None:
        return _Part(values.flatten(1, 2), mask_BTK.flatten(1, 2), soft_BTK.flatten(1, 2))
    repeated = "{index}" in segment.prefix
    texts = [segment.prefix.format(index=step + 1) for step in range(steps if repeated else 1)]
    prefix = _embed([token_ids(tokenizer, text) for text in texts], embedding, weight)
    prefix_BTPL = prefix.embeds.expand(batch, -1, -1, -1)
    prefix_BTP = prefix.mask[None] & steps_BT[:, : len(texts), None]
    ids_BTP = prefix.ids.expand(batch, -1, -1)
    if repeated and not segment.prefixes_first:
        embeds, mask = torch.cat([prefix_BTPL, values], dim=2), torch.cat([prefix_BTP, mask_BTK], dim=2)
        ids = torch.cat([ids_BTP, soft_BTK], dim=2)
        return _Part(embeds.flatten(1, 2), mask.flatten(1, 2), ids.flatten(1, 2))
    embeds = torch.cat([prefix_BTPL.flatten(1, 2), values.flatten(1, 2)], dim=1)
    mask = torch.cat([prefix_BTP.flatten(1), mask_BTK.flatten(1)], dim=1)
    return _Part(embeds, mask, torch.cat([ids_BTP.flatten(1), soft_BTK.flatten(1)], dim=1))


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids `(len(rows), longest)` int64, padded on the right with 0, and the mask of the real ones, bool."""
    ids = pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)
    return ids, torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])


def _embed(rows: Sequence[Sequence[int]], embedding: nn.Module, weight: Tensor) -> _Part:
    ids, mask = (to_device(own, weight.device) for own in padded(rows))
    return _Part(embedding(plain(ids)), mask, ids)
