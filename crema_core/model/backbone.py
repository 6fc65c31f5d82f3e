"""The frozen backbone: vision encoder, Q-Former, language model and tokenizer of a BLIP-2 or InstructBLIP checkpoint.

Everything comes from transformers; a folder and a hub id load by the same call. Another language model can take the
place of the checkpoint's own. Frozen means frozen: eval mode is kept whatever `train()` requests, and no parameter is
trainable.

Shape letters: M images, N tokens per image, E vision width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.errors import CheckpointError, OptionsError
from crema_core.fusion.connector import QFormerText, VisualLayout
from crema_core.model.bf16_kernels import choose_attention, fuse_norms
from crema_core.model.chat_format import ChatFormat, override_chat_format, own_chat_format
from crema_core.model.checkpoint import CLIP_MEAN, CLIP_STD, RGB
from crema_core.model.id_language import language_of
from crema_core.model.kernels import fuse_activations, layers, share_position_bias
from crema_core.model.language import Language
from crema_core.model.precision import keep_full
from crema_core.model.qformer import QFormer
from crema_core.model.settings import BackboneSettings
from crema_core.model.template import PromptTemplate
from crema_core.model.trainable import fingerprint, freeze
from crema_core.model.tuning import FULL, LanguageLora, lora_layers, lora_parameters, train_dropout, tune_language

TINY = "crema-tiny"
ALONE = "language model alone"
"""Source of a backbone that is a language model and nothing before it."""
LANGUAGE_PREFIX = "language_model."


class Backbone(nn.Module):
    """Frozen parts of a model: a language model, and what a checkpoint has before it.

    Args:
        language_model: causal or encoder-decoder.
        tokenizer: of the language model.
        settings: what it was loaded by, recorded in checkpoints.
        vision_model: encoder of images, or None.
        qformer: BLIP-2's or InstructBLIP's, or None; adapters of modalities are built around it.
        query_tokens: the Q-Former's own queries.
        language_projection: from the Q-Former into the checkpoint's own language model; None when another
            replaces it.
        image_mean, image_std: normalisation of RGB in 0..1.
        shape_only: the weights are not there, only their shapes (see `crema_core.model.shapes`).
        template: wording the language model was trained with, as settings of `PromptTemplate`; what `build` is given
            goes before it.

    Attributes:
        whole_clips, usual_frames, pictures: see `crema_core.modality.BuildContext`.
        major_prefix: text before the major modality's tokens where neither user nor strategy chose one; None: the
            declared one.
        norm_eps: of every modality's LayerNorm before the Q-Former; CREMA's own by default.
        source: folder, hub id or name it was loaded by.
        any_image_size: whether the side of the pictures was chosen, and is recorded in checkpoints.
        provenance: name, package and version of the family that loaded it, recorded in checkpoints; None where no
            family did.
        weights: of shapes alone, the hub id of the weights; else None.
        revisions: commits of the hub it was read from, see `crema_core.model.revisions`.
    """

    whole_clips: bool = False
    usual_frames: int | None = None
    pictures: Callable[[Tensor], Tensor] | None = None
    any_image_size: bool = False
    norm_eps: float = 1e-5
    major_prefix: str | None = None

    def __init__(
        self,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        settings: BackboneSettings,
        vision_model: nn.Module | None = None,
        qformer: QFormer | None = None,
        query_tokens: nn.Parameter | None = None,
        language_projection: nn.Linear | None = None,
        image_mean: RGB = CLIP_MEAN,
        image_std: RGB = CLIP_STD,
        shape_only: bool = False,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.shape_only, self.template = shape_only, dict(template or {})
        self.vision_model, self.qformer = vision_model, qformer
        self.query_tokens, self.language_projection = query_tokens, language_projection
        self.language_model = language_model
        fuse_activations(self.language_model)
        fuse_norms(self.language_model)
        share_position_bias(self.language_model)
        if self.qformer is not None:
            choose_attention(self.qformer.model)
        self.settings, self.source, self.tokenizer = settings, settings.source, tokenizer
        self.image_mean, self.image_std = image_mean, image_std
        self.provenance: dict[str, str] | None = None
        self.revisions: dict[str, dict[str, str]] = {}
        self.weights: str | None = None
        if not shape_only:
            keep_full(self.qformer, self.language_projection)
            if self.query_tokens is not None:
                self.query_tokens.data = self.query_tokens.data.float()
        freeze(self)
        self.eval()
        self.tuning: LanguageLora | Literal["full"] | None = None
        self._identity: str | None = None
        self._language_identity: str | None = None

    def record(self) -> dict[str, Any]:
        """Return what a saved model says about it: its settings, with the side of the pictures where it was chosen."""
        size = self.image_size if self.any_image_size else None
        return self.settings.model_copy(update={"image_size": size}).record()

    @property
    def device(self) -> torch.device:
        """Where it is."""
        embedding: Any = self.language_model.get_input_embeddings()
        found: torch.device = embedding.weight.device
        return found

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the vision encoder, or of the language model where there is none."""
        frozen = self.language_model if self.vision_model is None else self.vision_model
        return next(frozen.parameters()).dtype

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images the vision encoder takes; 224 where there is none."""
        return 224 if self.vision_model is None else int(self._vision_config.image_size)

    @property
    def vision_dim(self) -> int:
        """Width E of the vision features; 0 where there is no vision encoder."""
        return 0 if self.vision_model is None else int(self._vision_config.hidden_size)

    @property
    def _vision_config(self) -> Any:
        return cast(Any, self.vision_model).config

    @property
    def language_dim(self) -> int:
        """Width L of the language model's input embeddings."""
        embedding: Any = self.language_model.get_input_embeddings()
        return int(embedding.embedding_dim)

    @property
    def visual_layout(self) -> VisualLayout | None:
        """What its own visual tokens are; None where it has none."""
        return None

    def chat_format(self, *, chat: bool) -> ChatFormat:
        """Return what surrounds modalities, question and answer, see `crema_core.model.chat_format`."""
        if self.settings.language_model is None:
            return own_chat_format(self.language_model, self.tokenizer)
        return override_chat_format(self.language_model, self.tokenizer, chat=chat)

    def prompt_format(self, template: PromptTemplate) -> ChatFormat:
        """Return the chat format under the wording of a model.

        Raises:
            OptionsError: for an instruction that nothing would read: this prompt has no place for one, and the
                Q-Former does not read it.
        """
        reads_text = self.qformer is not None and self.qformer.tokenizer is not None
        if template.instruction and not (reads_text and template.qformer_input == "instruction"):
            raise OptionsError(
                f"template.instruction={template.instruction!r} was given, and the prompt of '{self.source}' has no "
                "place before the modalities. Accepted: an instruction for backbones trained with one (VideoChat2). "
                "Leave it out, or write it into template.open_ended."
            )
        return self.chat_format(chat=template.chat)

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixels_MCHW: `(M, 3, H, W)` normalised pixels.

        Returns:
            `(M, N, E)`: the last hidden states *before* the final LayerNorm, which every modality has as its own.
        """
        vision = cast(Any, self.vision_model)
        tokens: Tensor = vision.encoder(inputs_embeds=vision.embeddings(pixels_MCHW)).last_hidden_state
        return tokens

    def vision_parts(self) -> tuple[nn.Module, ...]:
        """Return the parts of the vision encoder that `encode_images` runs: embeddings first, layers last."""
        vision: Any = self.vision_model
        return () if vision is None else (vision.embeddings, vision.encoder)

    def vision_layers(self) -> tuple[nn.Module, ...]:
        """Return its repeated layers; each gives back as many numbers as it takes."""
        parts: Any = self.vision_parts()
        return tuple(parts[-1].layers) if parts else ()

    def language_layers(self) -> list[nn.Module]:
        """Return the layers that every prompt passes, which may be shared out over processes."""
        return layers(self.language_model)

    def own_sight(self, *, inner: bool = False) -> dict[str, Any]:
        """Return what a modality needs that sees as a vision-language model does, see `BuildContext`; nothing here.

        Args:
            inner: with the visual tokens before the projector, where they can be told.
        """
        return {}

    def own_hearing(self) -> dict[str, Any]:
        """Return what a modality needs that hears through the backbone, see `BuildContext`; nothing here."""
        return {}

    def speaking(self, template: PromptTemplate) -> Language:
        """Return the language model as the rest sees it, see `crema_core.model.language`."""
        chat_format = self.prompt_format(template)
        return language_of(self.language_model, self.tokenizer, chat_format=chat_format)

    def read(self, questions: Sequence[str]) -> QFormerText:
        """Tokenise questions for a Q-Former that reads text, see `QFormer.read`."""
        assert self.qformer is not None, "only a Q-Former reads text"
        return self.qformer.read(questions)

    def first_queries(self, count: int) -> Tensor:
        """Return the queries `(1, Q, H)` that a modality with `count` of them starts from; it copies equally many.

        Args:
            count: of the modality's own queries. By default all of the backbone's are returned, so that a modality with
                fewer starts from random ones.
        """
        assert self.query_tokens is not None, "only a Q-Former has queries"
        return self.query_tokens

    def train_lora(self, mode: bool) -> None:
        """Switch the dropouts of LoRA inside the frozen parts on or off."""
        if self.qformer is not None:
            self.qformer.train_lora(mode)
        train_dropout(lora_layers(self.language_model), mode)

    def tune(self, tuning: LanguageLora | Literal["full"] | None) -> None:
        """Let the language model be trained, see `crema_core.model.tuning`; nothing changes before it is."""
        self.tuning = tuning
        if isinstance(tuning, LanguageLora):
            tune_language(self.language_model, tuning)
        elif tuning == FULL and not self.shape_only:
            self.identity(), self.language_identity()  # kept: what the model was before it was trained

    def tuned_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained of the language model; nothing where it is frozen."""
        if isinstance(self.tuning, LanguageLora):
            return lora_parameters(lora_layers(self.language_model))
        return dict(self.language_model.named_parameters()) if self.tuning == FULL else {}

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode, unless the released code's frozen dropout was asked for (vision stays in eval there)."""
        super().train(mode and self.settings.backbone_dropout)
        if self.vision_model is not None:
            self.vision_model.eval()
        return self

    def processing(self) -> dict[str, str]:
        """Return what turns media and questions into its inputs beside its weights, recorded in saved models.

        Nothing here: CREMA's own code does, which has a version of its own.
        """
        return {}

    def sight(self) -> str | None:
        """Return a sha256 over all that the features it makes of pictures depend on; None where it sees nothing."""
        return None if self.vision_model is None else fingerprint(self.vision_model)

    def fingerprint(self) -> str:
        """Return a sha256 over names, shapes and exact values of all frozen weights."""
        return fingerprint(self, skip=self._trained_parts())

    def _trained_parts(self) -> tuple[str, ...]:
        """Return starts of the names of what is trained with a modality, and saved with it: a new Q-Former."""
        return ("qformer.", "query_tokens") if self.qformer is not None and self.qformer.fresh else ()

    def require_weights(self) -> None:
        """Raise unless the weights are really there.

        Raises:
            CheckpointError: for a backbone of shapes alone.
        """
        if self.shape_only:
            raise CheckpointError(
                f"'{self.source}' is a backbone of shapes alone, for counting. Answers, training and saving need "
                f"weights. Use backbone='{self.weights or self.source}' where the hub is reachable, or '{TINY}'."
            )

    def identity(self) -> str:
        """Return a sha256 that is the same whatever precision the checkpoint was loaded in; computed once.

        A language model that replaces it has an identity of its own and is left out here.
        """
        self.require_weights()
        if self._identity is None:
            skip = () if self.settings.language_model is None else (LANGUAGE_PREFIX,)
            self._identity = fingerprint(self, dtype=torch.bfloat16, skip=(*skip, *self._trained_parts()))
        return self._identity

    def language_identity(self) -> str | None:
        """Return the same of the language model that replaces it; None for the backbone's own."""
        if self.settings.language_model is None:
            return None
        self.require_weights()
        if self._language_identity is None:
            self._language_identity = fingerprint(self.language_model, dtype=torch.bfloat16)
        return self._language_identity
