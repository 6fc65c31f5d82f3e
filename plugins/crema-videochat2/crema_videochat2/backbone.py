"""VideoChat2 as a backbone of CREMA: whole clips through its vision encoder, an adapter per modality on its Q-Former.

Unlike BLIP-2's, its Q-Former reads a clip once, however many frames it has, and an instruction beside the queries; the
tokens stand between `<Video>` and `</Video>` of Mistral's prompt. An adapter that was not trained gives VideoChat2's
own tokens exactly.

Shape letters: M clips, T frames, N tokens of a clip, E width of the vision encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from crema_core.fusion.connector import QFormerText
from crema_core.model.backbone import Backbone
from crema_core.model.chat_format import ChatFormat
from crema_core.model.qformer import QFormer
from crema_core.model.template import PromptTemplate
from crema_videochat2.checkpoint import LORA_NAME, Parts
from crema_videochat2.configuration import VideoChat2Config
from crema_videochat2.frames import STATISTICS, prepare_pixels
from crema_videochat2.prompts import TAGS, VIDEO_INSTRUCTION, read_instructions

TEMPLATE = {"qformer_input": "instruction", "instruction": VIDEO_INSTRUCTION}


class VideoChat2Backbone(Backbone):
    """Frozen parts of VideoChat2.

    Args:
        parts: what was read of a checkpoint; what it sits on is not copied.
        config: of the checkpoint.
        **settings: see `Backbone`.

    Attributes:
        constant_begin: whether position 0 holds the constant vector of released training just now: in train mode, where
            the checkpoint's `training_begin` is "constant".
    """

    whole_clips = True
    any_image_size = True
    major_prefix = ""  # its tokens follow the start tag directly

    def __init__(self, parts: Parts, config: VideoChat2Config, **settings: Any) -> None:
        trunk, sizes = parts.trunk, cast(Any, config)
        mean, std = STATISTICS[config.image_statistics]
        super().__init__(
            parts.language_model,
            parts.tokenizer,
            vision_model=trunk.vision_model,
            qformer=QFormer(trunk.qformer, parts.instruction_tokenizer),
            query_tokens=nn.Parameter(trunk.queries.detach().clone(), requires_grad=False),
            language_projection=trunk.language_projection,
            image_mean=mean,
            image_std=std,
            **settings,
        )
        self.norm_eps = float(sizes.vision_config.final_norm_eps)
        self.usual_frames = config.num_frames
        self.pictures = partial(prepare_pixels, side=self.image_size, statistics=config.image_statistics)
        self.max_instruction_tokens = config.max_instruction_tokens
        self.begin = int(cast(Any, self.language_model.config).bos_token_id)
        self.constant_begin = False
        self._begins_constant = config.training_begin == "constant"
        self._with_lora: str | None = None
        self.language_model.get_input_embeddings().register_forward_hook(self._replace_begin)

    def _replace_begin(self, _: nn.Module, arguments: tuple[Tensor, ...], embeds: Tensor) -> Tensor:
        """Put the constant of released training in place of the begin token's embedding."""
        if not self.constant_begin:
            return embeds
        return torch.where((arguments[0] == self.begin)[..., None], torch.full_like(embeds, float(self.begin)), embeds)

    def train(self, mode: bool = True) -> VideoChat2Backbone:
        """Stay frozen; in training position 0 holds what it held when the checkpoint was trained."""
        super().train(mode)
        self.constant_begin = mode and self._begins_constant
        return self

    @torch.no_grad()
    def encode_images(self, pixels_MTCHW: Tensor) -> Tensor:
        """Encode clips.

        Args:
            pixels_MTCHW: `(M, T, 3, H, W)` normalised frames, any T; or pictures `(M, 3, H, W)`.

        Returns:
            `(M, N, E)` before the LayerNorm, which every modality has as its own.
        """
        clips = pixels_MTCHW if pixels_MTCHW.dim() == 5 else pixels_MTCHW[:, None]
        tokens: Tensor = cast(Any, self.vision_model).encode(clips.to(self.dtype))
        return tokens

    def read(self, questions: Sequence[str]) -> QFormerText:
        """Tokenise instructions, padded on the right, so that positions do not depend on the other ones of the batch.

        Alone, or where all are one text, this is what the released code reads; a longer one loses its oldest words.
        """
        assert self.qformer is not None, "VideoChat2 has a Q-Former"
        assert self.qformer.tokenizer is not None, "which reads text"
        ids, mask = read_instructions(
            self.qformer.tokenizer, questions, max_tokens=self.max_instruction_tokens, padding="right"
        )
        return QFormerText(ids.to(self.device), mask.bool().to(self.device))

    def first_queries(self, count: int) -> Tensor:
        """Return the first `count` of its 96 queries, all where a modality has more."""
        assert self.query_tokens is not None, "VideoChat2 has queries"
        return self.query_tokens[:, :count]

    def chat_format(self, *, chat: bool) -> ChatFormat:
        """Return what surrounds clip, question and answer, without an instruction."""
        return self.prompt_format(PromptTemplate(chat=chat))

    def prompt_format(self, template: PromptTemplate) -> ChatFormat:
        """Return the released prompt: `{instruction} [INST] <Video>` ... `</Video> [/INST] [INST] {question} [/INST]`.

        An instruction that ends with a new line, as those of the benchmarks do, is joined without a blank. The two
        pieces around the tokens are tokenised apart, as released.
        """
        instruction = template.instruction.lstrip()
        joint = " " if instruction and not instruction[-1].isspace() else ""
        start, end = TAGS["video"]
        first = self._ids(f"{instruction}{joint}[INST] {start}")
        stop = int(cast(Any, self.tokenizer).eos_token_id)
        suffix = " [/INST]"
        return ChatFormat(
            self.tokenizer,
            stop,
            (stop,),
            prefix=(self.begin, *first),
            suffix=suffix,
            context=suffix,
            answer_prefix=" ",
            own_specials=False,
            before=f"{end} [/INST] [INST] ",
        )

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def fingerprint(self) -> str:
        """Return a sha256 over names, shapes and exact values of all frozen weights, the checkpoint's LoRA too."""
        return hashlib.sha256(f"{super().fingerprint()}{self._lora_digest(torch.float32)}".encode()).hexdigest()

    def identity(self) -> str:
        """Return a sha256 that is the same in every precision; the checkpoint's LoRA is a part of what it is."""
        if self._with_lora is None:
            both = f"{super().identity()}{self._lora_digest(torch.bfloat16)}"
            self._with_lora = hashlib.sha256(both.encode()).hexdigest()
        return self._with_lora

    def _lora_digest(self, dtype: torch.dtype) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.language_model.state_dict().items()):
            if f".{LORA_NAME}." in name:
                digest.update(name.encode())
                digest.update(
                    tensor.detach().cpu().to(dtype).contiguous().flatten().view(torch.uint8).numpy().tobytes()
                )
        return digest.hexdigest()
