"""The frozen language model as the rest sees it: loss of answers, generated text, scores of choices.

Encoder-decoder (T5) and decoder-only (OPT, Llama and others) models differ only here and in
`crema_core.model.chat_format`.

Shape letters: B samples, S prompt length, A answer length, L width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput

from crema_core.common.known import to_device
from crema_core.errors import OptionsError
from crema_core.model.chat_format import ChatFormat, own_chat_format
from crema_core.model.precision import no_numbers
from crema_core.model.prompt import Prompt, assemble, padded
from crema_core.tokens import Segment

IGNORED = -100
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Language:
    """Functions around a frozen language model; holds references, no parameters of its own.

    Args:
        model: an encoder-decoder or decoder-only model.
        tokenizer: its tokenizer.
        chat_format: what surrounds question and answer; by default as for a backbone's own language model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat_format: ChatFormat | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.chat_format = own_chat_format(model, tokenizer) if chat_format is None else chat_format
        self._positions = "position_ids" in inspect.signature(model.forward).parameters
        # Sampling and penalties a checkpoint brings along would change answers; its token ids are kept.
        given = {} if model.generation_config is None else model.generation_config.to_dict()
        ids = {key: value for key, value in given.items() if key.endswith("_token_id") and value is not None}
        if self.is_encoder_decoder:  # the one `logits` begins with
            ids["decoder_start_token_id"] = model.config.decoder_start_token_id
        model.generation_config = GenerationConfig(
            **ids | {"eos_token_id": list(self.chat_format.stops), "pad_token_id": self._pad}
        )
        # the model's layers are shared out over processes, so that all of them make each pass together, forward and
        # backward, whether they have anything to compute or not
        self.in_step = False
        # what tokens of modalities are multiplied with in the prompt of a vision-language model, see `build`
        self.gain = 1.0

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether answers come from a decoder of their own."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def embedding(self) -> nn.Module:
        """The input embedding."""
        module: nn.Module = self.model.get_input_embeddings()
        return module

    @property
    def side(self) -> Literal["left", "right"]:
        """Side on which prompts are padded."""
        return "right" if self.is_encoder_decoder else "left"

    def prompt(
        self, segments: Sequence[Segment], questions: Sequence[str], *, max_question_tokens: int | None = None
    ) -> Prompt:
        """Lay out segments and questions for this model, see `assemble`."""
        return assemble(
            segments,
            questions,
            chat_format=self.chat_format,
            embedding=self.embedding,
            side=self.side,
            max_question_tokens=max_question_tokens,
        )

    def logits(self, prompt: Prompt, answers_BA: Tensor) -> Tensor:
        """Return the logits `(B, A, V)` that predict each answer token, given prompt and the answer tokens before it.

        Args:
            prompt: padded on `side`.
            answers_BA: `(B, A)` ids, padded with `IGNORED`.
        """
        ids_BA = answers_BA.masked_fill(answers_BA == IGNORED, self._pad)
        if self.in_step and torch.is_grad_enabled():
            # A process whose samples lack the modality under training has no graph, and makes the backward pass too.
            zero = torch.zeros((), device=prompt.embeds.device, dtype=prompt.embeds.dtype, requires_grad=True)
            prompt = prompt._replace(embeds=prompt.embeds + zero)
        if self.is_encoder_decoder:
            output = self.model(
                inputs_embeds=prompt.embeds,
                attention_mask=prompt.mask.to(torch.int64),
                decoder_input_ids=self._shifted(ids_BA),
                use_cache=False,
            )
            return cast(Tensor, output.logits)
        embeds = torch.cat([prompt.embeds, self.embedding(ids_BA)], dim=1)
        mask = torch.cat([prompt.mask, answers_BA != IGNORED], dim=1).to(torch.int64)
        positions = self._position_ids(prompt, answers_BA.shape[1]) if self._positions else {}
        output = self.model(inputs_embeds=embeds, attention_mask=mask, use_cache=False, **positions)
        return cast(Tensor, output.logits[:, -answers_BA.shape[1] - 1 : -1])

    def _position_ids(self, prompt: Prompt, num_more: int) -> dict[str, Tensor]:
        """Return positions of the prompt and of tokens behind it; models without the argument (ALiBi) read the mask."""
        more_A = torch.arange(1, num_more + 1, device=prompt.mask.device)
        own_BS = prompt.mask.long().cumsum(1) - 1
        return {"position_ids": torch.cat([own_BS, own_BS[:, -1:] + more_A], dim=1).clamp(min=0)}

    def loss(self, prompt: Prompt, answers: Sequence[str], *, num_tokens: int | None = None) -> Tensor:
        """Return the mean cross-entropy over the answers' tokens, end tokens included (scalar, float32).

        Args:
            prompt: of B samples.
            answers: B texts.
            num_tokens: divide the sum by this number instead, where the samples are a part of a larger batch.
        """
        ids_BA = to_device(self.answer_ids(answers), prompt.embeds.device)
        groups = [] if self.in_step or not self.is_encoder_decoder else by_length((ids_BA != IGNORED).sum(1).tolist())
        if len(groups) > 1:
            total = self._grouped_loss(prompt, ids_BA, groups)
        else:
            total = _summed(self.logits(prompt, ids_BA), ids_BA)
        return total / (num_tokens or self.count_tokens(answers))

    def _grouped_loss(self, prompt: Prompt, ids_BA: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
        """Encode all prompts at once and decode short and long answers apart, so that short ones are not padded."""
        mask = prompt.mask.to(torch.int64)
        hidden_BSL = cast(Any, self.model).get_encoder()(inputs_embeds=prompt.embeds, attention_mask=mask)[0]
        total = torch.zeros((), device=ids_BA.device)
        for group in groups:
            rows = to_device(torch.tensor(group), ids_BA.device)
            longest = int((ids_BA[rows] != IGNORED).sum(1).max())
            own_GA = ids_BA[rows, :longest]
            output = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden_BSL[rows]),
                attention_mask=mask[rows],
                decoder_input_ids=self._shifted(own_GA.masked_fill(own_GA == IGNORED, self._pad)),
                use_cache=False,
            )
            total = total + _summed(output.logits, own_GA)
        return total

    def _shifted(self, ids_BA: Tensor) -> Tensor:
        """Return what a decoder reads to predict the ids: its start token, then all but the last."""
        start = torch.full_like(ids_BA[:, :1], self.model.config.decoder_start_token_id)
        return torch.cat([start, ids_BA[:, :-1]], dim=1)

    def count_tokens(self, answers: Sequence[str]) -> int:
        """Return the number of tokens of all answers together, end tokens included."""
        return sum(len(self._closed_ids(text)) for text in answers)

    def generate(
        self, prompt: Prompt, *, max_new_tokens: int, num_beams: int = 1, length_penalty: float = 1.0
    ) -> list[str]:
        """Return the greedy (or beam-searched) answers as text without special tokens."""
        more = {"length_penalty": length_penalty} if num_beams > 1 else {}
        sequences = self._generate(prompt, max_new_tokens=max_new_tokens, num_beams=num_beams, **more)
        given = 0 if prompt.ids is None else prompt.ids.ids.shape[1]  # ids go before what is new, vectors do not
        texts: list[str] = self.tokenizer.batch_decode(sequences[:, given:], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _generate(self, prompt: Prompt, *, num_beams: int = 1, **settings: Any) -> Any:
        """Return what transformers' generation does."""
        mask = prompt.mask.to(torch.int64)
        inputs = {"inputs_embeds": prompt.embeds, "attention_mask": mask}
        if self.is_encoder_decoder and num_beams > 1:
            inputs = beam_inputs(self.model, prompt.embeds, mask, num_beams)
        watch = _NumberWatch()
        found = cast(Any, self.model).generate(
            **inputs,
            num_beams=num_beams,
            do_sample=False,
            synced_gpus=self.in_step,
            logits_processor=LogitsProcessorList([watch]),
            **settings,
        )
        watch.require_numbers()
        return found

    def letter_scores(self, prompt: Prompt, num_choices: int) -> Tensor:
        """Return the log-probabilities `(B, num_choices)` of the answer letters, normalised over them.

        The answer is "Option A"; the scores are read where the letter is predicted, in one pass.
        """
        common, letters = self.letter_ids(num_choices)
        batch = prompt.embeds.shape[0]
        ids = torch.tensor([[*common, letters[0]]], device=prompt.embeds.device).expand(batch, -1)
        return self.logits(prompt, ids)[:, -1, letters].float().log_softmax(-1)

    def released_letter_scores(self, prompt: Prompt, num_choices: int) -> Tensor:
        """Return the letters' log-probabilities `(B, num_choices)` at the second greedily generated token.

        This is what the released code does; the first generated token need not be "Option" there.
        """
        _, letters = self.letter_ids(num_choices)
        output = self._generate(prompt, max_new_tokens=2, output_logits=True, return_dict_in_generate=True)
        return cast(Tensor, output.logits[-1][:, letters].float().log_softmax(-1))

    def letter_ids(self, num_choices: int) -> tuple[list[int], list[int]]:
        """Return the ids every "Option X" begins with and the one id that differs, for each letter.

        Raises:
            OptionsError: when the tokenizer does not give each letter one id of its own.
        """
        found = self.chat_format.letter_ids(LETTERS[:num_choices])
        if found is None:
            raise OptionsError(
                f"This tokenizer gives {num_choices} answer letters no ids of their own. Letter scoring needs one id "
                "per letter. Use choice_scoring='likelihood'."
            )
        return found

    def likelihood_scores(self, prompt: Prompt, choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return, for every sample and choice, the mean log-probability of the choice's tokens, the end token included.

        Choices of a sample with equal tokens are scored once, so that their scores are equal to the bit wherever they
        are computed.
        """
        rows_ids = [[tuple(self._closed_ids(choice)) for choice in row] for row in choices]
        distinct = [list(dict.fromkeys(row)) for row in rows_ids]
        counts = [len(row) for row in distinct]
        rows = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)])
        repeated = prompt.select(to_device(rows, prompt.embeds.device))
        ids_CA = to_device(_padded_answers([ids for row in distinct for ids in row]), prompt.embeds.device)
        logprobs_CAV = self.logits(repeated, ids_CA).float().log_softmax(-1)
        real = ids_CA != IGNORED
        picked = logprobs_CAV.gather(2, ids_CA.clamp(min=0)[:, :, None]).squeeze(2) * real
        scores = (picked.sum(1) / real.sum(1)).tolist()
        ends = accumulate(counts)
        return [
            [scores[end - len(own) + own.index(ids)] for ids in row]
            for end, own, row in zip(ends, distinct, rows_ids, strict=True)
        ]

    def answer_ids(self, answers: Sequence[str]) -> Tensor:
        """Return `(B, A)` ids of the answers, each closed by the end of the turn, padded with `IGNORED`."""
        return _padded_answers([self._closed_ids(text) for text in answers])

    def _closed_ids(self, answer: str) -> list[int]:
        return [*self.chat_format.answer_ids(answer), self.chat_format.end]

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.chat_format.end)


class _NumberWatch(LogitsProcessor):
    """Notices scores of tokens that are no numbers, for which generation would return an empty or a random text."""

    def __init__(self) -> None:
        self.bad: Tensor | None = None  # stays on the device: asked once, at the end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores as they came."""
        found = scores.isnan().any()
        self.bad = found if self.bad is None else self.bad | found
        return scores

    def require_numbers(self) -> None:
        if self.bad is not None and bool(self.bad):
            raise no_numbers("for the next token")


def _padded_answers(rows: Sequence[Sequence[int]]) -> Tensor:
    ids, mask = padded(rows)
    return ids.masked_fill(~mask, IGNORED)


def by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Split rows into short and long ones where that saves at least a quarter of the padded length, else not.

    Args:
        lengths: of every row, at least one.

    Returns:
        Positions of the rows in one group or two, short ones first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    longest = lengths[order[-1]]
    costs = [lengths[order[cut - 1]] * cut + longest * (len(order) - cut) for cut in range(1, len(order))]
    if not costs or min(costs) > 0.75 * longest * len(order):
        return [order]
    cut = costs.index(min(costs)) + 1
    return [order[:cut], order[cut:]]


def _summed(logits_BAV: Tensor, ids_BA: Tensor) -> Tensor:
    return F.cross_entropy(logits_BAV.flatten(0, 1).float(), ids_BA.flatten(), ignore_index=IGNORED, reduction="sum")


def beam_inputs(model: PreTrainedModel, embeds_BSL: Tensor, mask_BS: Tensor, num_beams: int) -> dict[str, Any]:
    """Return arguments for a beam search of an encoder-decoder without work that all beams of a sample share.

    transformers repeats a sample's encoder output for every beam, computes the cross-attention keys and values of each
    copy, and moves all of them at every step when beams change places. They are equal, so here they are computed once
    per sample, repeated once, and never moved.

    Args:
        model: an encoder-decoder.
        embeds_BSL: `(B, S, L)` prompts.
        mask_BS: `(B, S)` int64, 0 where padded.
        num_beams: beams per sample.
    """
    encoded = cast(Any, model.get_encoder())(inputs_embeds=embeds_BSL, attention_mask=mask_BS)
    cross = DynamicCache()
    start = torch.full_like(mask_BS[:, :1], cast(Any, model.config).decoder_start_token_id)
    # One decoder step fills the cross-attention part; what it decodes is not used.
    cast(Any, model.get_decoder())(
        input_ids=start,
        encoder_hidden_states=encoded.last_hidden_state,
        encoder_attention_mask=mask_BS,
        past_key_values=EncoderDecoderCache(DynamicCache(), cross),
        use_cache=True,
    )
    cross.batch_repeat_interleave(num_beams)
    cache = SharedEncoderCache(DynamicCache(), cross)
    return {"encoder_outputs": encoded, "attention_mask": mask_BS, "past_key_values": cache}


class SharedEncoderCache(EncoderDecoderCache):
    """Keys and values where the beams of a sample differ only in what was decoded."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Move the decoded part alone: a beam only changes places with one of the same sample."""
        self.self_attention_cache.reorder_cache(cast(Any, beam_idx))
