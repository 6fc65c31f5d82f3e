"""A language model that reads ids, with our vectors at some of their places.

Most language models take vectors alone. Some cannot: they look up more by id than their input embedding (Gemma 3n and
4 have one more for each layer), or their generation begins with ids (Bamba, Falcon-H1). They are given the ids of the
text, with one ordinary id where our tokens are, and read our vectors instead of that id's embedding
(`crema_core.model.vlm.hooks`). Vision-language models go the same way.

Shape letters: B samples, S prompt length, A answer length, L width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.common.known import to_device
from crema_core.model.chat_format import ChatFormat
from crema_core.model.language import IGNORED, Language
from crema_core.model.prompt import Prompt, PromptIds, assemble
from crema_core.model.vlm.hooks import counting_on_host, placed
from crema_core.tokens import Segment

BY_ID = ("per_layer_inputs", "ple_input_ids")
"""Arguments of decoders that look up more by id than the input embedding; given vectors alone they search for ids whose
embeddings these are."""


def needs_ids(model: PreTrainedModel) -> bool:
    """Whether a language model must be given ids, for its forward pass or for generation."""
    if model.config.is_encoder_decoder:
        return False
    decoder: Any = model.get_decoder()
    more = inspect.signature(decoder.forward).parameters
    begins = inspect.signature(cast(Any, model).prepare_inputs_for_generation).parameters
    return "inputs_embeds" not in begins or any(name in more for name in BY_ID)


def language_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    chat_format: ChatFormat | None = None,
) -> Language:
    """Return a language model as the rest sees it, of the class that gives it what it reads; arguments as there."""
    if needs_ids(model):
        return IdLanguage(model, tokenizer, chat_format=chat_format)
    return Language(model, tokenizer, chat_format=chat_format)


class IdLanguage(Language):
    """Functions around a frozen language model that is given ids.

    Args:
        model: decoder-only.
        tokenizer: its tokenizer.
        chat_format: what surrounds question and answer.

    Attributes:
        answer_kinds: by argument given per token, its value at the tokens of an answer.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, chat_format: ChatFormat | None = None
    ) -> None:
        super().__init__(model, tokenizer, chat_format=chat_format)
        self.answer_kinds: Mapping[str, int] = {}
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def soft_token(self) -> int:
        """Id that stands where our tokens are: the padding's, as where Gemma has features of its own."""
        return self._pad

    @property
    def _fill(self) -> int:
        """Id of padding: one with an embedding. That of padding may be zero, and Gemma 3n divides by its length."""
        return self.chat_format.end

    def prompt(
        self, segments: Sequence[Segment], questions: Sequence[str], *, max_question_tokens: int | None = None
    ) -> Prompt:
        """Lay out segments and questions for this model, see `assemble`."""
        prompt = assemble(
            segments,
            questions,
            chat_format=self.chat_format,
            embedding=self.embedding,
            side=self.side,
            max_question_tokens=max_question_tokens,
            soft_token=self.soft_token,
        )
        given = ids_of(prompt)
        return prompt._replace(ids=given._replace(ids=given.ids.masked_fill(~prompt.mask, self._fill)))

    def logits(self, prompt: Prompt, answers_BA: Tensor) -> Tensor:
        """Return the logits `(B, A, V)` that predict each answer token, see `Language.logits`."""
        given = ids_of(prompt)
        ids_BA = answers_BA.masked_fill(answers_BA == IGNORED, self._fill)
        embeds, more = prompt.embeds, answers_BA.shape[1]
        if self.in_step and torch.is_grad_enabled():
            embeds = embeds + torch.zeros((), device=embeds.device, requires_grad=True)
        kinds = {
            name: torch.cat([kind, torch.full_like(ids_BA, self.answer_kinds.get(name, 0))], 1)
            for name, kind in given.kinds.items()
        }
        longer = given._replace(ids=torch.cat([given.ids, ids_BA], 1), kinds=kinds)
        mask = torch.cat([prompt.mask, answers_BA != IGNORED], 1)
        with self._placed(embeds, longer, more=more), counting_on_host(self.model):
            output = cast(Any, self.model)(
                **self._inputs(longer, mask),
                use_cache=False,
                **(self._position_ids(prompt, more) if self._positions else {}),
                **({"logits_to_keep": more + 1} if self._keeps_logits else {}),
            )
        return cast(Tensor, output.logits[:, -more - 1 : -1])

    def _placed(self, embeds_BSL: Tensor, given: PromptIds, *, more: int = 0) -> Any:
        pad = torch.nn.functional.pad
        deep = None
        if given.deep is not None:
            cut = pad(given.deep, (0, 0, 0, more)).unflatten(2, (-1, embeds_BSL.shape[2]))
            deep = cut.permute(0, 2, 1, 3)
        return placed(
            self.model,
            pad(embeds_BSL, (0, 0, 0, more)),
            pad(given.placed, (0, more)),
            own_BS=pad(given.own, (0, more)),
            deep_BKSL=deep,
        )

    def _inputs(self, given: PromptIds, mask_BS: Tensor) -> dict[str, Any]:
        inputs = {}
        for name, rows in given.inputs.items():
            there = [row for row in rows if row is not None and row.numel()]
            if there:
                inputs[name] = to_device(torch.cat(there), given.ids.device)
        return {"input_ids": given.ids, "attention_mask": mask_BS.to(torch.int64), **given.kinds, **inputs}

    def _generate(self, prompt: Prompt, *, num_beams: int = 1, **settings: Any) -> Any:
        """Return what transformers' generation does, ids of the prompt first."""
        given = ids_of(prompt)
        with self._placed(prompt.embeds, given), counting_on_host(self.model):
            return cast(Any, self.model).generate(
                **self._inputs(given, prompt.mask),
                num_beams=num_beams,
                do_sample=False,
                synced_gpus=self.in_step,
                **settings,
            )


def ids_of(prompt: Prompt) -> PromptIds:
    """Return what is read beside our vectors; a prompt of such a model always has it."""
    assert prompt.ids is not None, "prompts of a language model that reads ids have ids"
    return prompt.ids
