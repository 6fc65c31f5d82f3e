"""A vision-language model as the rest sees it: prompts of ids with our vectors at some places.

The prompt is the text the family's own chat template writes, with the model's visual tokens where its template has
them. Tokens of further modalities follow: after each frame, where the template writes frames apart and a fusion gives
as many steps, else in one block behind the pictures, each step after its prefix. At their places the ids are those of
one ordinary token, and the model reads our vectors instead (`crema_core.model.vlm.hooks`).

Shape letters: B samples, S prompt length, A answer length, T steps, K tokens of a step, L width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.common.known import to_device
from crema_core.common.tensors import unpadded
from crema_core.model.id_language import IdLanguage
from crema_core.model.prompt import Prompt, PromptIds
from crema_core.model.token_ids import token_ids
from crema_core.model.vlm.chat import VisualChat
from crema_core.model.vlm.reader import runs_of
from crema_core.model.vlm.traits import Traits
from crema_core.tokens import OWN_IDS, Segment

Placement = Literal["frames", "block"]


class _Row:
    """One sample's prompt as it is written: ids, and where our vectors and the model's own come from."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.source: list[int] = []  # row of the pool of vectors, -1 for text
        self.own: list[bool] = []
        self.kinds: dict[str, list[int]] = {}

    def text(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.source += [-1] * len(ids)
        self.own += [False] * len(ids)

    def fill(self) -> None:
        """Bring what is given per token to the length of the ids, with 0 for what no processor spoke about."""
        for kind in self.kinds.values():
            kind += [0] * (len(self.ids) - len(kind))

    def soft(self, token: int, sources: Sequence[int]) -> None:
        self.ids += [token] * len(sources)
        self.source += sources
        self.own += [False] * len(sources)


class VisualLanguage(IdLanguage):
    """Functions around a frozen vision-language model.

    Args:
        model: whole, as transformers loads it.
        tokenizer: of its language model.
        chat: text of a turn.
        traits: of the family.
        placeholders: ids that visual tokens take the place of.
        kinds: names of arguments given per token.
        soft_token: id that stands where our tokens are.
        scale: length per channel (root of the mean square) of the model's input embeddings; tokens of about one are
            brought to it.
        placement: "frames" or "block", see above.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat: VisualChat,
        traits: Traits,
        placeholders: Sequence[int],
        kinds: Sequence[str],
        soft_token: int,
        scale: float,
        placement: Placement,
    ) -> None:
        super().__init__(model, tokenizer, chat_format=chat.answer)
        self.answer_kinds, self._positions = traits.answer_kinds, False  # it counts positions itself, from ids
        self.chat, self.traits, self.placeholders, self.kinds = chat, traits, tuple(placeholders), tuple(kinds)
        self.scale, self.placement, self._soft_token = scale, placement, soft_token
        self._mark = str(tokenizer.convert_ids_to_tokens(self.placeholders[0]))
        self._marks = [str(tokenizer.convert_ids_to_tokens(one)) for one in self.placeholders]
        begun = list(tokenizer("a")["input_ids"])
        opens = begun[:1] == [tokenizer.bos_token_id] or traits.begins
        self._begin = [int(tokenizer.bos_token_id)] if opens else []

    @property
    def soft_token(self) -> int:
        """Id that stands where our tokens are."""
        return self._soft_token

    @property
    def side(self) -> Literal["left", "right"]:
        """Side on which prompts are padded."""
        return "left"

    def prompt(
        self, segments: Sequence[Segment], questions: Sequence[str], *, max_question_tokens: int | None = None
    ) -> Prompt:
        """Lay out segments and questions.

        Args:
            segments: what the fusion returned, in order; at most one of them the model's own visual tokens.
            questions: B texts.
            max_question_tokens: longest question; longer ones lose their end.
        """
        embedding = self.embedding
        weight: Tensor = next(embedding.parameters())
        width = int(cast(Any, embedding).embedding_dim)
        own = next((segment for segment in segments if segment.own is not None), None)
        soft = [segment for segment in segments if segment.own is None]
        firsts: list[int] = []
        pool: list[Tensor] = []
        for segment in segments:
            firsts.append(sum(len(values) for values in pool))
            values = segment.values if segment.own is not None else segment.values * (self.scale * self.gain)
            pool.append(values[..., :width].flatten(0, 2).float())
        starts = dict(zip(map(id, segments), firsts, strict=True))
        there = [_there(segment) for segment in soft]
        rows = [
            self._row(
                row,
                own,
                [
                    (one, _steps(there_BTK[row], starts[id(one)] + row * one.values[0, ..., 0].numel()))
                    for one, there_BTK in zip(soft, there, strict=True)
                ],
                starts,
                question,
                max_question_tokens,
            )
            for row, question in enumerate(questions)
        ]
        device = weight.device
        ids = to_device(_left([row.ids for row in rows], self._fill), device)
        mask = to_device(_left([[1] * len(row.ids) for row in rows], 0).bool(), device)
        source = to_device(_left([row.source for row in rows], -1), device)
        where_own = to_device(_left([row.own for row in rows], 0).bool(), device)
        where = source >= 0
        vectors = torch.cat([*pool, torch.zeros(1, width, device=device)])
        embeds = vectors[source]  # the last row, of zeros, where there is text
        deep = None
        if own is not None and own.values.shape[-1] > width:
            more = own.values[..., width:].flatten(0, 2)
            index = (source - starts[id(own)]).masked_fill(~where_own, 0)
            deep = more[index] * where_own[..., None]
        kinds = {
            name: to_device(_left([row.kinds.get(name, [0] * len(row.ids)) for row in rows], 0), device)
            for name in self.kinds
        }
        given = {} if own is None or own.own is None else own.own
        seen = [False] * len(rows) if own is None else own.mask.flatten(1).any(1).tolist()
        inputs = {
            name: [unpadded(extra[row]) if seen[row] else None for row in range(len(rows))]
            for name, extra in given.items()
            if name in self.traits.kept
        }
        return Prompt(embeds, mask, PromptIds(ids, where, where_own, kinds, inputs, deep))

    def _row(
        self,
        row: int,
        own: Segment | None,
        soft: Sequence[tuple[Segment, list[list[int]]]],
        starts: Mapping[int, int],
        question: str,
        limit: int | None,
    ) -> _Row:
        """Write one sample's prompt; `soft` has for every segment what `_steps` returns of this sample."""
        out = _Row()
        steps = [(segment, found) for segment, found in soft if found]
        seen = own is not None and bool(own.mask[row].any())
        head, tail = self._around(self._shortened(question, limit), seen=seen, more=bool(steps))
        out.text([*self._begin, *head] if self._begin and head[:1] != self._begin else head)
        block = steps
        if seen:
            assert own is not None
            block = self._write_own(out, own, row, starts[id(own)], steps)
        for segment, found in block:
            for index, sources in enumerate(found):
                if segment.prefix and ("{index}" in segment.prefix or not index):
                    out.text(self._plain(segment.prefix.format(index=index + 1)))
                out.soft(self.soft_token, sources)
        out.text(tail)
        out.fill()
        return out

    def _around(self, question: str, *, seen: bool, more: bool) -> tuple[list[int], list[int]]:
        """Return the ids before and behind pictures and further modalities, tokenised as one text."""
        chat = self.chat
        if not seen and not more:
            return self._plain(chat.before + question + chat.after), []
        before, gap = (chat.seen, chat.gap or self.traits.gap) if seen else (chat.before, "")
        if more and not gap.strip(" "):
            gap = "\n"
        ids = self._plain(f"{before}{self._mark}{gap}{question}{chat.after}")
        place = ids.index(self.placeholders[0])
        return ids[:place], ids[place + 1 :]

    def _plain(self, text: str) -> list[int]:
        return token_ids(self.tokenizer, text)

    def _shortened(self, question: str, limit: int | None) -> str:
        for mark in self._marks:  # a question about such a token is about its letters
            question = question.replace(mark, f"{mark[:1]} {mark[1:]}")
        if limit is not None and len(own := self._plain(question)) > limit:
            return str(self.tokenizer.decode(own[:limit]))
        return question

    def _write_own(
        self, out: _Row, own: Segment, row: int, first: int, steps: Sequence[tuple[Segment, list[list[int]]]]
    ) -> list[tuple[Segment, list[list[int]]]]:
        """Write the model's own visual tokens, with those modalities inside whose steps are its frames.

        Returns:
            The modalities that come behind.
        """
        assert own.own is not None
        _, num_steps, tokens, _ = own.values.shape
        mask = own.mask[row]
        mask_TK = mask if mask.dim() == 2 else mask[:, None].expand(-1, tokens)
        start = first + row * num_steps * tokens
        sources = iter((start + mask_TK.flatten().nonzero()[:, 0]).tolist())
        ids = unpadded(own.own[OWN_IDS][row])
        is_own = torch.stack([ids == one for one in self.placeholders]).any(0)
        kinds = {name: unpadded(own.own[name][row]) for name in self.kinds if name in own.own}
        runs = runs_of(is_own)
        if len(runs) == 1 and int(mask_TK.sum()) != runs[0][1] - runs[0][0]:  # a fusion adds newlines, or drops one
            taken = to_device(_stretched(len(ids), runs[0], int(mask_TK.sum())), ids.device)
            ids, is_own, kinds = ids[taken], is_own[taken], {name: kind[taken] for name, kind in kinds.items()}
            runs = runs_of(is_own)
        written, own_kinds = ids.tolist(), {name: kind.tolist() for name, kind in kinds.items()}
        inside: list[tuple[Segment, list[list[int]]]] = []
        ends: list[int] = []
        if self.placement == "frames" and len(runs) > 1:
            inside = [one for one in steps if len(one[1]) == len(runs)]
            closing = written[runs[-1][1] :]
            ends = [stop + len(closing) * (written[stop : stop + len(closing)] == closing) for _, stop in runs]
        for name in self.kinds:
            out.kinds[name] = [0] * len(out.ids)
        for place, (token, real) in enumerate(zip(written, is_own.tolist(), strict=True)):
            out.ids.append(token)
            out.source.append(next(sources) if real else -1)
            out.own.append(real)
            for name in self.kinds:
                out.kinds[name].append(own_kinds[name][place] if name in own_kinds else 0)
            if place + 1 in ends:
                for segment, found in inside:
                    index = ends.index(place + 1)
                    if segment.prefix:
                        out.text(self._plain(segment.prefix.format(index=index + 1)))
                    out.soft(self.soft_token, found[index])
                out.fill()
        chosen = {id(segment) for segment, _ in inside}
        return [one for one in steps if id(one[0]) not in chosen]


def _stretched(length: int, run: tuple[int, int], count: int) -> Tensor:
    """Return positions of a sequence whose run, all of one value, is to be `count` long.

    Example:
        >>> _stretched(5, (1, 3), 4).tolist()
        [0, 1, 1, 1, 1, 3, 4]
    """
    start, stop = run
    return torch.cat([torch.arange(start), torch.full((count,), start), torch.arange(stop, length)])


def _there(segment: Segment) -> list[list[list[bool]]]:
    """Return which tokens are there, by sample, step and token."""
    mask = segment.mask
    mask_BTK = mask if mask.dim() == 3 else mask[:, :, None].expand(segment.values.shape[:3])
    if not torch.is_grad_enabled():  # what was never trained says nothing, and is not there
        mask_BTK = mask_BTK & (segment.values != 0).any(-1)
    found: list[list[list[bool]]] = mask_BTK.tolist()
    return found


def _steps(there_TK: Sequence[Sequence[bool]], start: int) -> list[list[int]]:
    """Return, for every step a sample has, the rows of the pool its tokens are, of which the first is `start`."""
    return [
        [start + step * len(there) + token for token, real in enumerate(there) if real]
        for step, there in enumerate(there_TK)
        if any(there)
    ]


def _left(rows: Sequence[Sequence[int] | Sequence[bool]], fill: int) -> Tensor:
    """Return rows as one tensor, padded on the left."""
    return pad_sequence(
        [torch.tensor(row, dtype=torch.int64) for row in rows],
        batch_first=True,
        padding_value=fill,
        padding_side="left",
    )
