"""Frozen encoders from the hub or a folder: the one place that loads a transformers model for a sense.

Every load is complete or refused: a checkpoint that lacks weights of the model would leave layers at random, which
transformers only logs. Code of a checkpoint is never run, and its revision can be pinned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from crema_core.errors import AssetError
from crema_core.model.trainable import freeze


def load_frozen(
    model_class: Any,
    source: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    unused: tuple[str, ...] = (),
) -> PreTrainedModel:
    """Load a model in eval mode with nothing to train.

    Args:
        model_class: a class of transformers with `from_pretrained`, an Auto class too.
        source: hub id, or folder in the format `save_pretrained` writes.
        revision: commit, tag or branch on the hub; None: the latest.
        dtype: number format of the weights.
        unused: beginnings of names of weights the caller never runs, which the checkpoint may lack.

    Raises:
        AssetError: when there is no such checkpoint, it cannot be read, or it lacks weights of the model.

    Example:
        >>> from transformers import Dinov2Model
        >>> load_frozen(Dinov2Model, "facebook/dinov2-large", revision="47b73ee")    # doctest: +SKIP
    """
    config = read_config(source, revision=revision)
    accepted = getattr(model_class, "config_class", None)
    if accepted is not None and not _fits(config, accepted):
        raise AssetError(
            f"'{source}' is a '{config.model_type}' checkpoint. Needed is one for {model_class.__name__} "
            f"('{accepted.model_type}'). Name another checkpoint, or choose the encoder that fits this one."
        )
    try:
        with _quiet():
            loaded = model_class.from_pretrained(
                source, revision=revision or "main", dtype=dtype, output_loading_info=True, use_safetensors=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AssetError(
            f"The weights of '{source}' cannot be read: {_first_line(error)} Accepted: a complete checkpoint in "
            "safetensors format. Download or copy it again."
        ) from error
    model, info = loaded
    absent = sorted(key for key in info["missing_keys"] if not key.startswith(unused)) + sorted(
        str(key) for key in info["mismatched_keys"]
    )
    if absent:
        raise AssetError(
            f"'{source}' lacks {len(absent)} weights of {type(model).__name__}, first: {absent[0]}. They would stay "
            "random. Name a checkpoint that holds the whole encoder."
        )
    freeze(model)
    frozen: PreTrainedModel = model.eval()
    return frozen


def read_config(source: str | Path, *, revision: str | None = None) -> PretrainedConfig:
    """Return the configuration of a checkpoint.

    Raises:
        AssetError: when nothing is found at `source` or it is no transformers checkpoint.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise AssetError(
            f"No encoder was found at '{source}': {_first_line(error)} Accepted: a hub id, or a folder with "
            "config.json and model.safetensors. Check the name, or download the checkpoint and name its folder."
        ) from error
    return config


def _fits(config: PretrainedConfig, accepted: Any) -> bool:
    # A model of one tower also loads from the checkpoint of the whole, whose configuration contains the tower's.
    own = {config.model_type} | {
        part.model_type for part in vars(config).values() if isinstance(part, PretrainedConfig)
    }
    return accepted.model_type in own


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading bar and its report of heads left out (which is intended) out of the output."""
    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."
