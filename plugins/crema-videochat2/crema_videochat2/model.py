"""The whole of VideoChat2 with Mistral as it was released: tokens of a clip, the loss of stage 3, answers.

CREMA's backbone (`crema_videochat2.backbone`) is made of the same parts. This module is for whoever wants the model by
itself: to compare it, to answer as the released code does, or to train it as stage 3 does.

In training position 0 holds a vector whose every channel is the begin token's id (1.0) and not that token's embedding;
at test the embedding stands there. The released weights were trained so, and both are done here as they were.

Shape letters: B samples, T frames, N features of a clip, E their width, Q queries, P tokens of an instruction, S prompt
length, L width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import InstructBlipQFormerModel, PreTrainedModel, PreTrainedTokenizerBase

from crema_core.model.trainable import set_trainable
from crema_videochat2.configuration import VideoChat2Config
from crema_videochat2.prompts import IGNORED, Conversation, read_instructions
from crema_videochat2.vision import UmtVisionModel

if TYPE_CHECKING:
    from crema_videochat2.checkpoint import Sizes


class VideoChat2Trunk(PreTrainedModel):
    """Everything before the language model: vision encoder, Q-Former, queries and projection.

    Attributes:
        query_tokens, extra_query_tokens: `(1, q, H)`; those of the first stage stand before the extra ones.
    """

    config_class = VideoChat2Config
    main_input_name = "pixel_values"

    def __init__(self, config: VideoChat2Config) -> None:
        super().__init__(config)
        sizes = cast(Any, config)
        hidden, width = sizes.qformer_config.hidden_size, sizes.text_config.hidden_size
        self.vision_model = UmtVisionModel(sizes.vision_config)
        self.query_tokens = nn.Parameter(torch.zeros(1, sizes.num_query_tokens, hidden))
        self.extra_query_tokens = nn.Parameter(torch.zeros(1, sizes.num_extra_query_tokens, hidden))
        self.qformer = InstructBlipQFormerModel(sizes.qformer_config)
        self.language_projection = nn.Linear(hidden, width)
        cast(Any, self).post_init()

    @property
    def queries(self) -> Tensor:
        """All queries `(1, Q, H)`."""
        return torch.cat([self.query_tokens, self.extra_query_tokens], dim=1)

    def read(self, features_BNE: Tensor, ids_BP: Tensor | None = None, mask_BP: Tensor | None = None) -> Tensor:
        """Let the queries read the features of a clip.

        Args:
            features_BNE: `(B, N, E)` after the LayerNorm.
            ids_BP: `(B, P)` instructions, whose positions count from 0 at the left edge, padding included; None: no
                text, as in stage 2.
            mask_BP: `(B, P)`, 0 for padding; None: there is none.

        Returns:
            `(B, Q, H)` outputs of the queries.
        """
        queries = self.queries.expand(features_BNE.shape[0], -1, -1)
        text: dict[str, Tensor | None] = {"input_ids": None}
        if ids_BP is not None:
            real = torch.ones_like(ids_BP) if mask_BP is None else mask_BP.to(ids_BP.dtype)
            text = {"input_ids": ids_BP, "attention_mask": torch.cat([real.new_ones(queries.shape[:2]), real], dim=1)}
        output = self.qformer(query_embeds=queries, encoder_hidden_states=features_BNE, **text)
        hidden: Tensor = output.last_hidden_state[:, : queries.shape[1]]
        return hidden


class Prompt(NamedTuple):
    """Input of the language model."""

    embeds: Tensor  # `(B, S, L)`
    mask: Tensor  # `(B, S)` int64
    labels: Tensor  # `(B, S)` int64, `IGNORED` where there is no loss


class Output(NamedTuple):
    """What a training pass gives."""

    loss: Tensor  # scalar, mean over the labelled tokens of the batch
    logits: Tensor  # `(B, S, V)`; those at padding mean nothing
    visual: Tensor  # `(B, Q, L)`
    prompt: Prompt


class Answer(NamedTuple):
    """A generated answer."""

    text: str
    ids: tuple[int, ...]


class VideoChat2(nn.Module):
    """VideoChat2 with its language model.

    Stage 3 trains everything but the language model's own weights, and so does this module: what `parameters()` gives
    with `requires_grad` is the trunk and the LoRA. The drop path of released training (up to 0.2 in the Q-Former) is
    left out; dropout (0.1) is on in train mode.

    Args:
        trunk: see there.
        language_model: Mistral, with its LoRA if there is one.
        tokenizer: of the language model.
        instruction_tokenizer: of the Q-Former; None where instructions come as ids.

    Example:
        >>> model = VideoChat2.from_pretrained("videochat2")    # doctest: +SKIP
        >>> ids, mask = model.read_instructions([VIDEO_INSTRUCTION])    # doctest: +SKIP
        >>> visual = model.visual_tokens(pixels_BTCHW, ids, mask)    # doctest: +SKIP
        >>> model.answer(visual, *question_text("what moves?"))    # doctest: +SKIP
    """

    def __init__(
        self,
        trunk: VideoChat2Trunk,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        instruction_tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.language_model = trunk, language_model
        self.tokenizer, self.instruction_tokenizer = tokenizer, instruction_tokenizer
        self.config = cast(VideoChat2Config, trunk.config)
        trained = {name for name, _ in self.named_parameters() if name.startswith("trunk.") or ".lora_" in name}
        set_trainable(self, trained)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, place: str | Path, *, revision: str | None = None, dtype: torch.dtype = torch.float32
    ) -> VideoChat2:
        """Load a converted checkpoint, see `crema convert-videochat2`.

        Args:
            place: folder or hub id.
            revision: on the hub.
            dtype: of the language model; everything before it is float32.

        Raises:
            CheckpointError: when files are absent, damaged or do not fit each other.
        """
        from crema_videochat2.checkpoint import read_parts

        parts = read_parts(str(place), revision, dtype=dtype)
        return cls(parts.trunk, parts.language_model, parts.tokenizer, parts.instruction_tokenizer)

    @classmethod
    def from_released(
        cls,
        state: Mapping[str, Tensor],
        language_model: str | Path,
        *,
        stage_1: Mapping[str, Tensor] | None = None,
        qformer_tokenizer: str | Path | None = None,
        sizes: Sizes | None = None,
        unwrap_lora: bool = False,
        merge_lora: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> VideoChat2:
        """Put a model together from released weights, without writing a folder.

        Args:
            state: of stage 3, or of stage 2, see `crema_videochat2.released.read_file`.
            language_model: hub id or folder of the Mistral it was trained with.
            stage_1: beside a state of stage 2.
            qformer_tokenizer: hub id or folder of bert-base-uncased; None: instructions come as ids.
            sizes: what the weights do not say, see `crema_videochat2.checkpoint.Sizes`; None: the released ones.
            unwrap_lora: see `crema_videochat2.released.convert_state`.
            merge_lora: add the LoRA to the language model's weights.
            dtype: of the language model.

        Raises:
            CheckpointError: when files are absent or damaged, a key has no place, or parts do not fit each other.

        Example:
            >>> state = read_file("videochat2_mistral_7b_stage3.pth")    # doctest: +SKIP
            >>> VideoChat2.from_released(state, "mistralai/Mistral-7B-Instruct-v0.2")    # doctest: +SKIP
        """
        from crema_videochat2.checkpoint import Sizes, parts_of
        from crema_videochat2.released import convert_state

        parts = parts_of(
            convert_state(state, stage_1=stage_1, unwrap_lora=unwrap_lora),
            str(language_model),
            sizes=Sizes() if sizes is None else sizes,
            qformer_tokenizer=None if qformer_tokenizer is None else str(qformer_tokenizer),
            merged=merge_lora,
            dtype=dtype,
        )
        return cls(parts.trunk, parts.language_model, parts.tokenizer, parts.instruction_tokenizer)

    def read_instructions(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and mask `(B, P)` of instructions, padded on the left as released; see `read_instructions`."""
        assert self.instruction_tokenizer is not None, "instructions were to come as ids"
        return read_instructions(self.instruction_tokenizer, texts, max_tokens=self.config.max_instruction_tokens)

    def features(self, pixels_BTCHW: Tensor) -> Tensor:
        """Return what the Q-Former attends to, `(B, N, E)`, of normalised frames `(B, T, 3, H, W)`; T = 1: pictures."""
        found: Tensor = self.trunk.vision_model(pixels_BTCHW)
        return found

    def visual_tokens(
        self, pixels_BTCHW: Tensor, ids_BP: Tensor | None = None, mask_BP: Tensor | None = None
    ) -> Tensor:
        """Return the tokens of clips for the language model, `(B, Q, L)`; see `features` and `VideoChat2Trunk.read`."""
        tokens: Tensor = self.trunk.language_projection(self.trunk.read(self.features(pixels_BTCHW), ids_BP, mask_BP))
        return tokens

    def training_prompt(
        self, visual_BQL: Tensor, conversations: Sequence[Conversation], *, max_prompt_tokens: int = 512
    ) -> Prompt:
        """Lay out conversations as stage 3 does: begin vector, text, visual tokens, text, padding on the right.

        Args:
            visual_BQL: `(B, Q, L)`.
            conversations: B of them, see `crema_videochat2.prompts.tokenize_conversation`.
            max_prompt_tokens: a prompt longer than this and Q together is cut on the right.
        """
        num_queries = visual_BQL.shape[1]
        rows = [(list(own.before), list(own.after), list(own.labels)) for own in conversations]
        longest = max(len(before) + num_queries + len(after) for before, after, _ in rows)
        length = min(longest + 1, max_prompt_tokens + num_queries)
        device, (begin, pad) = visual_BQL.device, self._begin_and_pad
        embeds, masks, labels = [], [], []
        for visual_QL, (before, after, learned) in zip(visual_BQL, rows, strict=True):
            padding = longest - len(before) - num_queries - len(after)
            tail = self._embed([*after, *[pad] * padding])
            first_1L = torch.full_like(tail[:1], float(begin))  # a constant, not the begin token's embedding
            whole_SL = torch.cat([first_1L, self._embed(before), visual_QL.to(tail.dtype), tail])
            embeds.append(whole_SL[:length])
            real = 1 + len(before) + num_queries + len(after)
            masks.append(([1] * real + [0] * padding)[:length])
            silent = [IGNORED] * (1 + len(before) + num_queries)
            labels.append((silent + learned + [IGNORED] * padding)[:length])
        return Prompt(torch.stack(embeds), torch.tensor(masks, device=device), torch.tensor(labels, device=device))

    def forward(
        self,
        pixels_BTCHW: Tensor,
        conversations: Sequence[Conversation],
        ids_BP: Tensor | None = None,
        mask_BP: Tensor | None = None,
        *,
        max_prompt_tokens: int = 512,
    ) -> Output:
        """Return loss and logits of a training pass; arguments as of `visual_tokens` and `training_prompt`."""
        visual = self.visual_tokens(pixels_BTCHW, ids_BP, mask_BP)
        prompt = self.training_prompt(visual, conversations, max_prompt_tokens=max_prompt_tokens)
        logits: Tensor = self.language_model(inputs_embeds=prompt.embeds, attention_mask=prompt.mask).logits
        targets = prompt.labels[:, 1:].flatten()
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=IGNORED)
        return Output(loss, logits, visual, prompt)

    def question_prompt(self, visual_QL: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
        """Return the embeddings `(1, S, L)` of a question at test, the begin token's own embedding first.

        Args:
            visual_QL: `(Q, L)`.
            before: ids up to and with the start tag, begin token included.
            after: ids from the end tag on.
        """
        tail = self._embed(after)
        return torch.cat([self._embed(before), visual_QL.to(tail.dtype), tail])[None]

    def question_ids(self, before: str, after: str) -> tuple[list[int], list[int]]:
        """Return the ids of the two pieces that `question_text` gives, the begin token before the first."""
        pieces = [list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (before, after)]
        return [self._begin_and_pad[0], *pieces[0]], pieces[1]

    @torch.no_grad()
    def generate(self, embeds_1SL: Tensor, *, max_new_tokens: int = 100) -> Answer:
        """Return the greedy answer to one prompt, as the released code asks for it and reads it."""
        found = cast(Any, self.language_model).generate(
            inputs_embeds=embeds_1SL,
            attention_mask=torch.ones(embeds_1SL.shape[:2], dtype=torch.int64, device=embeds_1SL.device),
            max_new_tokens=max_new_tokens,
            min_length=1,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self._begin_and_pad[1],
        )
        ids: list[int] = found[0].tolist()
        for unwanted in (0, 1):
            if ids[:1] == [unwanted]:
                ids = ids[1:]
        text = str(self.tokenizer.decode(ids)).split(str(self.tokenizer.eos_token))[0].strip()
        return Answer(text, tuple(ids))

    def answer(self, visual_1QL: Tensor, before: str, after: str, *, max_new_tokens: int = 100) -> str:
        """Return the answer to a question about one clip.

        Args:
            visual_1QL: from `visual_tokens`.
            before, after: from `crema_videochat2.prompts.question_text`.
            max_new_tokens: most tokens of the answer; 512 in the demo.
        """
        embeds = self.question_prompt(visual_1QL[0], *self.question_ids(before, after))
        return self.generate(embeds, max_new_tokens=max_new_tokens).text

    @property
    def _begin_and_pad(self) -> tuple[int, int]:
        own = cast(Any, self.language_model.config)
        return int(own.bos_token_id), int(self.tokenizer.eos_token_id)

    def _embed(self, ids: Sequence[int]) -> Tensor:
        embedding: Any = self.language_model.get_input_embeddings()
        chosen: Tensor = embedding(torch.tensor(list(ids), dtype=torch.int64, device=embedding.weight.device))
        return chosen
