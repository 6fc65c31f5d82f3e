"""Parts of a backbone's checkpoint: configuration, complete weights, tokenizer, wording, statistics of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from crema_core.errors import CheckpointError, first_line
from crema_core.model.loading import find_config, find_file, read_json, read_weights

TEMPLATE = "crema_template.json"
BACKBONE = "crema_backbone.json"
"""File of a backbone's folder with what its configuration cannot say, see `is_pretrained`."""
"""A backbone folder may carry the wording its language model knows in this file."""
RGB = tuple[float, float, float]
CLIP_MEAN: RGB = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: RGB = (0.26862954, 0.26130258, 0.27577711)


def read_config(place: str, revision: str | None, *, what: str, accepted: str, try_next: str) -> PreTrainedConfig:
    """Read the configuration of a checkpoint.

    Args:
        place: folder or hub id.
        revision: hub revision.
        what: what is looked for, for the message.
        accepted: what is accepted, for the message.
        try_next: what to type next, for the message.

    Raises:
        CheckpointError: when there is none.
    """
    return find_config(place, revision=revision, error=CheckpointError, what=what, accepted=accepted, try_next=try_next)


def read_model(
    model_class: Any,
    place: str,
    revision: str | None,
    *,
    dtype: torch.dtype,
    config: PreTrainedConfig,
    quantized: Any = None,
) -> PreTrainedModel:
    """Read weights, sharded or not, in `dtype` whatever the configuration says.

    Args:
        model_class: with `from_pretrained`.
        place: folder or hub id.
        revision: hub revision.
        dtype: of every weight, see `crema_core.model.precision`.
        config: from `read_config`.
        quantized: from `crema_core.model.quantization`; None: not quantised.

    Raises:
        CheckpointError: when weights are absent, damaged or do not fit the configuration.
    """
    more = {} if quantized is None else {"quantization_config": quantized}
    read = read_weights(
        model_class, place, revision=revision, error=CheckpointError, dtype=dtype, config=config, **more
    )
    if read.absent:
        raise CheckpointError(
            f"The weights of '{place}' are incomplete: {len(read.absent)} tensors of the configuration are not in the "
            f"files, first: {', '.join(read.absent[:3])}. Accepted: a complete checkpoint in safetensors format. "
            "Download or copy it again."
        )
    return read.model


def read_tokenizer(place: str, revision: str | None, *, subfolder: str = "") -> PreTrainedTokenizerBase:
    """Read a tokenizer.

    Raises:
        CheckpointError: when there is none, or it needs a package that is not installed.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, subfolder=subfolder)
    except (OSError, ValueError, ImportError) as error:
        where = f"'{place}/{subfolder}'" if subfolder else f"'{place}'"
        raise CheckpointError(
            f"The tokenizer of {where} cannot be read: {first_line(error)}. Accepted: tokenizer.json and "
            "tokenizer_config.json as the hub has them. Download or copy the files again."
        ) from error
    return tokenizer


def is_pretrained(place: Path) -> bool:
    """Return whether a backbone learned from real pictures and texts.

    A folder says that it did not by a file `crema_backbone.json` with `{"pretrained": false}`, as the tiny backbones do
    that know a generated world alone.

    Args:
        place: folder, or hub id.
    """
    file = place / BACKBONE
    return not file.is_file() or json.loads(file.read_text(encoding="utf-8")).get("pretrained", True) is not False


def own_template(place: str, revision: str | None) -> dict[str, Any]:
    """Return the wording a checkpoint brings along, an empty mapping where it brings none.

    Raises:
        CheckpointError: when the file is not JSON.
    """
    return read_json(place, TEMPLATE, revision=revision, error=CheckpointError) or {}


def processor_chat_template(place: str, revision: str | None) -> str | None:
    """Return the chat template a checkpoint's processor has of its own, None where it has none.

    Raises:
        CheckpointError: when the file that should hold it is not JSON.
    """
    file = find_file(place, "chat_template.jinja", revision=revision)
    if file is not None:
        return file.read_text(encoding="utf-8")
    settings = read_json(place, "chat_template.json", revision=revision, error=CheckpointError)
    return None if settings is None else str(settings["chat_template"])


def image_statistics(place: str, revision: str | None) -> tuple[RGB, RGB]:
    """Return mean and standard deviation of RGB in 0..1, CLIP's where the checkpoint names none.

    Raises:
        CheckpointError: when the file that should name them is not JSON.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        found = read_json(place, name, revision=revision, error=CheckpointError) or {}
        settings = found.get("image_processor", found)
        if "image_mean" in settings:
            return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return CLIP_MEAN, CLIP_STD
