"""Another language model in place of the backbone's own (CREMA Table 6): any causal or encoder-decoder model of
transformers.

The backbone's own projection leads into another model's space, so every modality starts with a fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import yaml
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

from crema_core.errors import CheckpointError, OptionsError, first_line
from crema_core.model.checkpoint import read_config, read_model, read_tokenizer
from crema_core.model.id_language import language_of
from crema_core.model.settings import BackboneSettings

FILE = Path(__file__).with_name("languages.yaml")
PROBES = ("What is it?", "Is the thing in the picture left of the other one, or is it right of it?")
PROBED_TOKENS = 3
TOLERANCE = 1e-3
"""Of the largest logit, in float32; a wrong position or mask moves logits by tenths and more."""
TRY = "Try language_model='mistralai/Mistral-7B-v0.1' where the hub is reachable."


def read_override_config(place: str, revision: str | None) -> PreTrainedConfig:
    """Read the configuration of a language model.

    Raises:
        CheckpointError: when there is none at `place`, or it is another kind of model, or one that is refused.
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
    if config.model_type in known().refused:
        raise CheckpointError(
            f"'{place}' is a '{config.model_type}' language model: {known().refused[config.model_type]}. Accepted: the "
            f"kinds of docs/backbones.md, and others whose answers do not depend on a batch. {TRY}"
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
    if config.model_type not in known().compared:
        verify(model, tokenizer)
    return model, tokenizer


class Known(NamedTuple):
    """What is known of model types before one is loaded.

    Attributes:
        compared: with transformers' own forward pass and generation.
        refused: and why.
    """

    compared: tuple[str, ...]
    refused: Mapping[str, str]


@cache
def known() -> Known:
    """Return what `languages.yaml` has."""
    found = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return Known(tuple(found["compared"]), found["refused"])


@torch.no_grad()
def verify(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare generation from vectors, beside a longer question, with transformers' own from the ids of one question.

    Raises:
        CheckpointError: naming the difference.
    """
    kind = str(model.config.model_type)
    try:
        language = language_of(model.eval(), tokenizer)
        settings: dict[str, Any] = {
            "max_new_tokens": PROBED_TOKENS, "min_new_tokens": PROBED_TOKENS, "output_logits": True,
            "return_dict_in_generate": True,
        }  # fmt: skip
        ids = torch.tensor([language.chat_format.question_ids(PROBES[0])], device=model.device)
        alone = cast(Any, model).generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **settings)
        beside = language._generate(language.prompt([], PROBES), **settings)
        wanted, got = (torch.stack(one.logits)[:, 0].float() for one in (alone, beside))
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError, LookupError, OptionsError) as error:
        raise CheckpointError(_refusal(kind, f"{type(error).__name__}: {first_line(error)}")) from error
    same = alone.sequences[0, -PROBED_TOKENS:] == beside.sequences[0, -PROBED_TOKENS:]
    steps = int(same.cumprod(0).sum()) + 1  # behind another token the texts are no longer the same
    worst, largest = float((wanted - got)[:steps].abs().max()), float(wanted.abs().max())
    bound = TOLERANCE * max(1.0, largest) * (1.0 if next(model.parameters()).dtype == torch.float32 else 100.0)
    if not worst <= bound:
        raise CheckpointError(_refusal(kind, f"logits of up to {largest:.3g} differ by {worst:.3g}"))


def _refusal(kind: str, what: str) -> str:
    return (
        f"The language model type '{kind}' was tried on a question, and given its vectors beside a longer question it "
        f"does not generate what it does from its ids alone: {what}. Accepted: the kinds of docs/backbones.md, and "
        f"others that pass this test. {TRY}"
    )
