"""The frozen backbone: vision encoder, Q-Former, language model and tokenizer of a BLIP-2 checkpoint.

Everything comes from transformers; a folder and a hub id load by the same call. Frozen means frozen: eval mode is kept
whatever `train()` asks, and no parameter is trainable.

Shape letters: M images, N tokens per image, E vision width.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, Blip2ForConditionalGeneration, PreTrainedTokenizerBase
from transformers.utils import logging
from transformers.utils.hub import cached_file

from crema_core.errors import CheckpointError
from crema_core.model.precision import frozen_dtype, keep_full
from crema_core.model.qformer import QFormer
from crema_core.model.quantization import quantization_config
from crema_core.model.shapes import shape_model, shape_names, shape_tokenizer
from crema_core.model.trainable import freeze

TINY = "crema-tiny"
TEMPLATE = "crema_template.json"
"""A backbone folder may carry the wording its language model knows in this file."""
RGB = tuple[float, float, float]
CLIP_MEAN: RGB = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: RGB = (0.26862954, 0.26130258, 0.27577711)


class Backbone(nn.Module):
    """Frozen parts of a model.

    Args:
        model: the transformers model.
        tokenizer: its tokenizer.
        source: folder or hub id it came from, recorded in checkpoints.
        revision: hub revision, or None.
        image_mean, image_std: normalisation of RGB in 0..1.
        frozen_dropout: train with the frozen parts' own dropout, as the released code does (0.1); off by default.
        shape_only: the weights are not there, only their shapes (see `crema_core.model.shapes`).
        template: wording the language model was trained with, as settings of `PromptTemplate`; what `build` is given
            goes before it.
    """

    def __init__(
        self,
        model: Blip2ForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        *,
        source: str,
        revision: str | None = None,
        image_mean: RGB = CLIP_MEAN,
        image_std: RGB = CLIP_STD,
        frozen_dropout: bool = False,
        shape_only: bool = False,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.shape_only, self.template = shape_only, dict(template or {})
        self.vision_model = model.vision_model
        self.qformer = QFormer(model.qformer)
        self.query_tokens = model.query_tokens
        self.language_projection = model.language_projection
        self.language_model = model.language_model
        self.tokenizer = tokenizer
        self.source, self.revision = source, revision
        self.image_mean, self.image_std = image_mean, image_std
        self.frozen_dropout = frozen_dropout
        if not shape_only:
            keep_full(self.qformer, self.language_projection)
            self.query_tokens.data = self.query_tokens.data.float()
        freeze(self)
        self.eval()
        self._identity: str | None = None

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images the vision encoder takes."""
        return int(self.vision_model.config.image_size)

    @property
    def vision_dim(self) -> int:
        """Width E of the vision features."""
        return int(self.vision_model.config.hidden_size)

    @property
    def language_dim(self) -> int:
        """Width L of the language model's input embeddings."""
        return int(self.language_model.get_input_embeddings().embedding_dim)

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixels_MCHW: `(M, 3, H, W)` normalised pixels.

        Returns:
            `(M, N, E)`: the last hidden states *before* the final LayerNorm, which every sense has as its own.
        """
        embedded = self.vision_model.embeddings(pixels_MCHW)
        tokens: Tensor = self.vision_model.encoder(inputs_embeds=embedded).last_hidden_state
        return tokens

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode, unless the released code's frozen dropout was asked for (vision stays in eval there)."""
        super().train(mode and self.frozen_dropout)
        self.vision_model.eval()
        return self

    def fingerprint(self) -> str:
        """Return a sha256 over names, shapes and exact values of all frozen weights."""
        return fingerprint(self)

    def require_weights(self) -> None:
        """Raise unless the weights are really there.

        Raises:
            CheckpointError: for a backbone of shapes alone.
        """
        if self.shape_only:
            raise CheckpointError(
                f"'{self.source}' is a backbone of shapes alone, for counting. Answers, training and saving need "
                f"weights. Use backbone='Salesforce/{self.source}' where the hub is reachable, or '{TINY}'."
            )

    def identity(self) -> str:
        """Return a sha256 that is the same whatever precision the checkpoint was loaded in; computed once."""
        self.require_weights()
        if self._identity is None:
            self._identity = fingerprint(self, dtype=torch.bfloat16)
        return self._identity


def fingerprint(module: nn.Module, *, dtype: torch.dtype | None = None) -> str:
    """Return a sha256 over a module's state without LoRA, independent of the device.

    Args:
        module: whose state is hashed; meta tensors count by shape alone.
        dtype: floating-point values are rounded to it first; None for exact values.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if ".lora_" in name:
            continue
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name.replace('.base_layer', '')}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        if tensor.device.type != "meta":
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_backbone(
    source: str | Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
) -> Backbone:
    """Load a BLIP-2-format checkpoint.

    Args:
        source: folder, hub id, "crema-tiny" for the one shipped in the package, or a name of
            `crema_core.model.shapes`, for counting without weights.
        revision: hub revision (commit, tag or branch).
        precision: "fp32" or "bf16", of vision encoder and language model.
        frozen_dropout: see `Backbone`.
        quantization: "8bit" or "4bit" language model, see `crema_core.model.quantization`; None: as it is.

    Raises:
        CheckpointError: when nothing loads from `source` or it is no BLIP-2 model.
        PrecisionError: for fp16.
    """
    dtype = frozen_dtype(precision)
    quantized = None if quantization is None else quantization_config(quantization, dtype=dtype)
    if str(source) in shape_names() and not Path(source).exists():
        return Backbone(
            shape_model(str(source), dtype=dtype), shape_tokenizer(), source=str(source), shape_only=True
        )
    place = str(tiny_backbone() if str(source) == TINY else source)
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"No backbone was found at '{source}': {_first_line(error)} Accepted: a folder or hub id in BLIP-2 format, "
            f"or '{TINY}'. Try backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable."
        ) from error
    if config.model_type != "blip-2":
        raise CheckpointError(
            f"'{source}' is a '{config.model_type}' model. The backbone must be in BLIP-2 format (model_type "
            f"'blip-2'). Try backbone='Salesforce/blip2-flan-t5-xl', or '{TINY}' to see everything work."
        )
    try:
        with _progress_on_terminals_only():
            model = Blip2ForConditionalGeneration.from_pretrained(
                place,
                revision=revision or "main",
                dtype=dtype,
                config=config,
                **({} if quantized is None else {"quantization_config": quantized}),
            )
    except OSError as error:
        raise CheckpointError(
            f"The weights of '{source}' cannot be read: {_first_line(error)} Accepted: a complete checkpoint in "
            "safetensors format. Download or copy it again."
        ) from error
    mean, std = _image_statistics(place, revision)
    return Backbone(
        model,
        AutoTokenizer.from_pretrained(place, revision=revision),
        source=str(source),
        revision=revision,
        image_mean=mean,
        image_std=std,
        frozen_dropout=frozen_dropout,
        template=_own_template(place, revision),
    )


def tiny_backbone() -> Path:
    """Return the folder of the backbone shipped in the package."""
    from crema_core.world import tiny_backbone_path

    return tiny_backbone_path()


@contextmanager
def _progress_on_terminals_only() -> Iterator[None]:
    """Keep transformers' loading bar out of logs and pipes."""
    speaks = sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    hide = not speaks and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()


def _own_template(place: str, revision: str | None) -> dict[str, Any]:
    file = cached_file(place, TEMPLATE, revision=revision, _raise_exceptions_for_missing_entries=False)
    settings: dict[str, Any] = {} if file is None else json.loads(Path(file).read_text())
    return settings


def _image_statistics(place: str, revision: str | None) -> tuple[RGB, RGB]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            settings = json.loads(Path(file).read_text())
            settings = settings.get("image_processor", settings)
            if "image_mean" in settings:
                return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return CLIP_MEAN, CLIP_STD


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
