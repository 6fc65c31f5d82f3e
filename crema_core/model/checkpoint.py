"""Reading checkpoints in transformers format; a folder and a hub id go the same way.

What can go wrong outside this package (a wrong place, a damaged file, another kind of model) becomes an error of ours.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging
from transformers.utils.hub import cached_file

from crema_core.errors import CheckpointError

TEMPLATE = "crema_template.json"
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
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"No {what} was found at '{place}': {_first_line(error)} Accepted: {accepted}. {try_next}"
        ) from error
    return config


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
    try:
        with _quiet():
            model, found = model_class.from_pretrained(
                place,
                revision=revision or "main",
                dtype=dtype,
                config=config,
                output_loading_info=True,
                **({} if quantized is None else {"quantization_config": quantized}),
            )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"The weights of '{place}' cannot be read: {_first_line(error)} Accepted: a complete checkpoint in "
            "safetensors format. Download or copy it again."
        ) from error
    if found["missing_keys"]:
        first = ", ".join(sorted(found["missing_keys"])[:3])
        raise CheckpointError(
            f"The weights of '{place}' are incomplete: {len(found['missing_keys'])} tensors of the configuration are "
            f"not in the files, first: {first}. Accepted: a complete checkpoint in safetensors format. Download or "
            "copy it again."
        )
    return model  # type: ignore[no-any-return]


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
            f"The tokenizer of {where} cannot be read: {_first_line(error)} Accepted: tokenizer.json and "
            "tokenizer_config.json as the hub has them. Download or copy the files again."
        ) from error
    return tokenizer


def own_template(place: str, revision: str | None) -> dict[str, Any]:
    """Return the wording a checkpoint brings along, an empty mapping where it brings none."""
    file = cached_file(place, TEMPLATE, revision=revision, _raise_exceptions_for_missing_entries=False)
    settings: dict[str, Any] = {} if file is None else json.loads(Path(file).read_text())
    return settings


def processor_chat_template(place: str, revision: str | None) -> str | None:
    """Return the chat template a checkpoint's processor has of its own, None where it has none."""
    for name in ("chat_template.jinja", "chat_template.json"):
        file = cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            text = Path(file).read_text(encoding="utf-8")
            return text if name.endswith(".jinja") else str(json.loads(text)["chat_template"])
    return None


def image_statistics(place: str, revision: str | None) -> tuple[RGB, RGB]:
    """Return mean and standard deviation of RGB in 0..1, CLIP's where the checkpoint names none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            settings = json.loads(Path(file).read_text())
            settings = settings.get("image_processor", settings)
            if "image_mean" in settings:
                return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return CLIP_MEAN, CLIP_STD


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading bar out of logs and pipes, and its notes on keys, which are checked here, to itself.

    It would say of every FlanT5, for example, that output layer and embedding should have been one.
    """
    speaks = sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    hide = not speaks and logging.is_progress_bar_enabled()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    if hide:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if hide:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
