"""Another language model in place of the backbone's own (CREMA Table 6): any causal or encoder-decoder model of
transformers.

The backbone's own projection leads into another model's space, so every modality starts with a fresh one.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from crema_core.errors import CheckpointError
from crema_core.model.checkpoint import read_config, read_model, read_tokenizer
from crema_core.model.settings import BackboneSettings

TRY = "Try language_model='mistralai/Mistral-7B-v0.1' where the hub is reachable."


def read_override_config(place: str, revision: str | None) -> PreTrainedConfig:
    """Read the configuration of a language model.

    Raises:
        CheckpointError: when there is none at `place`, or it is another kind of model.
    """
    config = read_config(
        place,
        revision,
        what="language model",
        accepted="a folder or hub id of a causal or encoder-decoder language model of transformers",
        try_next=TRY,
    )
    if auto_class(config) is None:
        raise CheckpointError(
            f"'{place}' is a '{config.model_type}' model, which transformers does not list as a language model. "
            f"Accepted: causal (Mistral, Llama, Qwen and others) and encoder-decoder (T5 and others) ones. {TRY}"
        )
    return config


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the transformers class that builds this language model, None when it is none."""
    if config.is_encoder_decoder and config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return AutoModelForSeq2SeqLM
    if not config.is_encoder_decoder and config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return AutoModelForCausalLM
    return None


def load_override(
    settings: BackboneSettings, config: PreTrainedConfig, *, dtype: torch.dtype, quantized: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the language model that `settings.language_model` names, and its tokenizer.

    Args:
        settings: of the backbone.
        config: from `read_override_config`.
        dtype: of its weights.
        quantized: from `crema_core.model.quantization`; None: not quantised.

    Raises:
        CheckpointError: when weights or tokenizer cannot be read.
    """
    assert settings.language_model is not None, "there is a configuration only where a language model was named"
    place, revision = settings.language_model, settings.language_revision
    tokenizer = read_tokenizer(place, revision)
    model = read_model(auto_class(config), place, revision, dtype=dtype, config=config, quantized=quantized)
    return model, tokenizer
