"""From segments and questions to the language model's input embeddings.

Each step of a segment is preceded by its prefix text ("Frame 1: "), the question comes last. Samples differ in which
senses they have, so what is absent is cut out and the rest moved together: an answer never depends on the other
samples of its batch, although relative positions matter to the language model.

Shape letters: B samples, T steps, K tokens of a step, P prefix tokens, S prompt length, L language-model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from crema_core.model.tokens import Segment
from crema_core.model.turns import Turns


class Prompt(NamedTuple):
    """Input of the language model.

    Attributes:
        embeds: `(B, S, L)`.
        mask: `(B, S)` bool.
    """

    embeds: Tensor
    mask: Tensor


def assemble(
    segments: Sequence[Segment],
    questions: Sequence[str],
    *,
    turns: Turns,
    embedding: nn.Module,
    side: Literal["left", "right"] = "right",
    max_question_tokens: int | None = None,
) -> Prompt:
    """Lay out segments and questions, without gaps.

    Args:
        segments: what the fusion returned, in order.
        questions: B texts.
        turns: what stands around senses and questions, and the tokenizer of the language model.
        embedding: the language model's input embedding.
        side: where padding goes; "left" for decoder-only generation.
        max_question_tokens: longest question, special tokens included; longer ones lose their end.
    """
    weight: Tensor = next(embedding.parameters())
    parts = [_with_prefix(segment, turns.tokenizer, embedding, weight) for segment in segments]
    if turns.head:
        parts.insert(0, _embed([list(turns.head)] * len(questions), embedding, weight))
    rows = [turns.question_ids(question, max_question_tokens) for question in questions]
    parts.append(_embed(rows, embedding, weight))
    embeds = torch.cat([part for part, _ in parts], dim=1)
    mask = torch.cat([part_mask for _, part_mask in parts], dim=1)
    return pack(Prompt(embeds, mask), side=side)


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
    return Prompt(embeds * mask[:, :, None], mask)


def _with_prefix(
    segment: Segment, tokenizer: PreTrainedTokenizerBase, embedding: nn.Module, weight: Tensor
) -> tuple[Tensor, Tensor]:
    batch, steps, tokens, _ = segment.values.shape
    values = segment.values.to(weight.dtype)
    mask_BTK = segment.mask if segment.mask.dim() == 3 else segment.mask[:, :, None].expand(-1, -1, tokens)
    steps_BT = mask_BTK.any(-1)
    if segment.prefix is None:
        return values.flatten(1, 2), mask_BTK.flatten(1, 2)
    repeated = "{index}" in segment.prefix
    texts = [segment.prefix.format(index=step + 1) for step in range(steps if repeated else 1)]
    ids, ids_mask = prefix_ids(texts, tokenizer)
    prefix_TPL = embedding(ids.to(weight.device))
    prefix_BTP = ids_mask.to(weight.device)[None] & steps_BT[:, : len(texts), None]
    if not repeated:
        embeds = torch.cat([prefix_TPL.expand(batch, -1, -1), values.flatten(1, 2)], dim=1)
        return embeds, torch.cat([prefix_BTP.flatten(1), mask_BTK.flatten(1)], dim=1)
    prefix_BTPL = prefix_TPL.expand(batch, -1, -1, -1)
    if segment.prefixes_first:
        embeds = torch.cat([prefix_BTPL.flatten(1, 2), values.flatten(1, 2)], dim=1)
        return embeds, torch.cat([prefix_BTP.flatten(1), mask_BTK.flatten(1)], dim=1)
    embeds = torch.cat([prefix_BTPL, values], dim=2)
    return embeds.flatten(1, 2), torch.cat([prefix_BTP, mask_BTK], dim=2).flatten(1, 2)


def prefix_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """Tokenise prefixes without special tokens.

    Returns:
        Ids `(len(texts), P)` int64 and their mask, bool.
    """
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return padded(rows)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids `(len(rows), longest)` int64, padded on the right with 0, and the mask of the real ones, bool."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=torch.int64)
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows], dtype=torch.bool)
    return ids.reshape(len(rows), longest), mask.reshape(len(rows), longest)


def _embed(rows: Sequence[Sequence[int]], embedding: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor]:
    ids, mask = padded(rows)
    return embedding(ids.to(weight.device)), mask.to(weight.device)
