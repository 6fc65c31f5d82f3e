"""Vision-language models of transformers as a backbone family: whatever its Auto classes load and the recipe fits.

Model types in `families.yaml` were compared with transformers' own results. Any other is tried on a picture when it is
loaded, and refused where our way of putting visual tokens in gives other numbers than the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    PreTrainedConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from crema_core.errors import CheckpointError, OptionsError, first_line
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest
from crema_core.model.checkpoint import own_template, read_model, read_tokenizer
from crema_core.model.revisions import revision_of
from crema_core.model.shapes import shape_model
from crema_core.model.vlm.backbone import VisualBackbone, beside_decoder
from crema_core.model.vlm.hooks import captured, placed
from crema_core.model.vlm.qformer import qformer_of, shape_qformer_of
from crema_core.model.vlm.stand_in import stand_ins
from crema_core.model.vlm.traits import Traits, tried

PROBE_SHAPE = (1, 3, 64, 96)
TOLERANCE = 1e-3
"""Of the largest logit, in float32; a wrong position or mask moves logits by whole units."""


@dataclass(frozen=True)
class VisualFamily(BackboneFamily):
    """Vision-language models of transformers.

    Attributes:
        traits: how the family departs from others; None: as `families.yaml` says.
    """

    traits: Traits | None = None

    def recognises(self, config: PreTrainedConfig) -> bool:
        """Whether transformers has a class for the model type, or a part of it, that reads pictures and writes text."""
        return auto_class(visual_config(config)) is not None

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> VisualBackbone:
        """Load a checkpoint with its processor.

        Raises:
            CheckpointError: also where the recipe does not fit a model type that was not tried.
        """
        config, settings = visual_config(config), request.settings
        place, revision = request.place, settings.revision
        if settings.language_model is not None:
            raise CheckpointError(
                f"'{settings.source}' is a vision-language model ('{config.model_type}'), whose language model reads "
                f"its own visual tokens, and language_model='{settings.language_model}' was to replace it. Accepted: "
                "such a backbone as it is. Leave language_model out."
            )
        model = read_model(
            auto_class(config),
            place,
            revision,
            dtype=request.dtype(config),
            config=config,
            quantized=None
            if settings.quantization is None
            else request.quantized(config, whole=beside_decoder_of(config)),
        )
        processor = read_processor(place, revision)
        tokenizer = getattr(processor, "tokenizer", None) or read_tokenizer(place, revision)
        if getattr(processor, "chat_template", None) is not None:
            tokenizer.chat_template = processor.chat_template
        known = tried().get(config.model_type)
        qformer, queries = qformer_of(settings.qformer)
        backbone = VisualBackbone(
            model,
            processor,
            tokenizer,
            traits=self.traits or known or Traits(),
            settings=settings,
            qformer=qformer,
            query_tokens=queries,
            template=own_template(place, revision),
        )
        if self.traits is None and known is None:
            verify(backbone)
        return backbone

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> VisualBackbone:
        """Return the backbone without weights; its processor is built from `stand_ins.yaml`.

        Raises:
            CheckpointError: for a model type whose processor is not written there.
        """
        config, settings = visual_config(config), request.settings
        known = stand_ins().get(config.model_type)
        if known is None:
            raise CheckpointError(
                f"'{settings.source}' is a '{config.model_type}' model, whose visual tokens cannot be counted without "
                f"the files of its processor. Accepted: shapes of {', '.join(stand_ins())}. Name a folder or hub id "
                "with weights."
            )
        processor = known.build(config)
        qformer, queries = shape_qformer_of(settings.qformer)
        processor.tokenizer.chat_template = processor.chat_template
        return VisualBackbone(
            shape_model(auto_class(config).from_config, config, dtype=request.dtype(config)),
            processor,
            processor.tokenizer,
            traits=self.traits or tried().get(config.model_type) or Traits(),
            settings=settings,
            qformer=qformer,
            query_tokens=queries,
            shape_only=True,
        )


FAMILY = VisualFamily()


def visual_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the configuration of the vision-language model in a checkpoint: of the whole, or of its part that is one.

    Published Qwen-Omni checkpoints hold a thinker, which reads and writes, and what speaks (talker, token2wav); the
    thinker alone is loaded from their files.
    """
    if auto_class(config) is None:
        for name in config.sub_configs:
            part = getattr(config, name, None)
            if part is not None and auto_class(part) is not None:
                return cast(PreTrainedConfig, part)
    return config


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the Auto class that loads a vision-language model, None for other models."""
    if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return AutoModelForImageTextToText
    seen = getattr(config, "vision_config", None) is not None
    return AutoModelForMultimodalLM if seen and config.model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES else None


def beside_decoder_of(config: PreTrainedConfig) -> list[str]:
    """Return `beside_decoder` of the model of a configuration; no weight is read."""
    with init_empty_weights():
        return beside_decoder(auto_class(config).from_config(config))


def read_processor(place: str, revision: str | None) -> Any:
    """Read the processor of a checkpoint.

    Raises:
        CheckpointError: when there is none, or it needs a package that is not installed.
    """
    try:
        return AutoProcessor.from_pretrained(place, revision=revision_of(place, revision), trust_remote_code=False)
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The processor of '{place}' cannot be read: {first_line(error)}. Accepted: processor_config.json, "
            "preprocessor_config.json and the tokenizer's files as the hub has them. Download or copy the files "
            "again, or install what is named."
        ) from error


@torch.no_grad()
def verify(backbone: VisualBackbone) -> None:
    """Compare logits of a picture put in by us with those of the model's own forward pass.

    Raises:
        CheckpointError: naming the difference.
    """
    model, kind = backbone.language_model, str(backbone.language_model.config.model_type)
    draws = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, PROBE_SHAPE, generator=draws, dtype=torch.uint8)
    try:
        inputs: dict[str, Any] = dict(backbone.reader(chat=True).picture_inputs(picture))
        inputs = {name: backbone._cast(own) if isinstance(own, Tensor) else own for name, own in inputs.items()}
        ids = inputs["input_ids"]
        own = torch.isin(ids, torch.tensor(backbone.placeholders, device=ids.device))
        wanted = model(**inputs, use_cache=False).logits.float()
        found = captured(model, inputs, own, first_layer=backbone.traits.first_layer)
        embeds = found.embeds.new_zeros(*ids.shape, found.embeds.shape[-1])
        embeds[own] = found.embeds
        deep = None
        if len(found.deep):
            deep = embeds.new_zeros(1, len(found.deep), *embeds.shape[1:])
            deep[0][:, own[0]] = found.deep
        kept = {
            name: value
            for name, value in inputs.items()
            if name in ("input_ids", "attention_mask", *backbone.kinds, *backbone.traits.kept)
        }
        with placed(model, embeds, own, own_BS=own, deep_BKSL=deep):
            got = model(**kept, use_cache=False).logits.float()
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError, LookupError, OptionsError) as error:
        raise CheckpointError(_refusal(kind, f"{type(error).__name__}: {first_line(error)}")) from error
    worst, largest = float((wanted - got).abs().max()), float(wanted.abs().max())
    bound = TOLERANCE * max(1.0, largest) * (1.0 if wanted.dtype == backbone.dtype else 100.0)
    if not worst <= bound:
        raise CheckpointError(_refusal(kind, f"logits of up to {largest:.3g} differ by {worst:.3g}"))


def _refusal(kind: str, what: str) -> str:
    return (
        f"The model type '{kind}' was tried on a picture, and visual tokens put in by us do not give what the model "
        f"itself gives: {what}. Accepted: the families of docs/backbones.md, and others that pass this test. A package "
        "can add the family with entry points of the group crema.backbones; or use another model."
    )
