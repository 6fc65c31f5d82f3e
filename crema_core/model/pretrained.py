"""Frozen encoders of modalities from the hub or a folder.

Every load is complete or refused: a checkpoint that lacks weights of the model would leave layers at random, which
transformers only logs. The revision can be pinned.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from crema_core.common.reading import require_file, why
from crema_core.errors import AssetError, ReadError
from crema_core.model import checkpoint
from crema_core.model.revisions import revision_of
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
    model, absent, misfit = checkpoint.read_weights(
        model_class, source, revision=revision, error=AssetError, dtype=dtype, use_safetensors=True
    )
    random = [key for key in absent if not key.startswith(unused)] + list(misfit)
    if random:
        raise AssetError(
            f"'{source}' lacks {len(random)} weights of {type(model).__name__}, first: {random[0]}. They would stay "
            "random. Name a checkpoint that holds the whole encoder."
        )
    freeze(model)
    frozen: PreTrainedModel = model.eval()
    return frozen


def read_config(source: str | Path, *, revision: str | None = None) -> PreTrainedConfig:
    """Return the configuration of a checkpoint.

    Raises:
        AssetError: when nothing is found at `source` or it is no transformers checkpoint.
    """
    return checkpoint.read_config(
        source,
        revision,
        error=AssetError,
        what="encoder",
        accepted="a hub id, or a folder with config.json and model.safetensors",
        try_next="Check the name, or download the checkpoint and name its folder.",
    )


def read_processor(processor_class: Any, source: str | Path, *, revision: str | None = None, needed: str) -> Any:
    """Return the preprocessing a checkpoint came with.

    Args:
        processor_class: an Auto class of transformers for it.
        source: hub id or folder.
        revision: commit, tag or branch on the hub; None: the latest.
        needed: the sentence that states what needs it, for the message.

    Raises:
        AssetError: when the checkpoint has none.
    """
    try:
        return processor_class.from_pretrained(source, revision=revision_of(source, revision), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise AssetError(
            f"'{source}' has weights but no preprocessor_config.json. {needed} Download that file into the folder too."
        ) from error


def require_digest(path: str | Path, sha256: str | None) -> None:
    """Refuse a file of weights whose content is not the expected one.

    Args:
        path: the file.
        sha256: 64 hexadecimal digits; None: any content is accepted.

    Raises:
        AssetError: when it is absent or has another digest.
    """
    if sha256 is None:
        return
    try:
        with require_file(path).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ReadError) as error:
        raise AssetError(
            f"'{path}' cannot be opened: it {why(error)}. Its sha256 was asked for. Check the path of the weights."
        ) from error
    if found != sha256.lower():
        raise AssetError(
            f"'{path}' has the sha256 {found}. Expected is {sha256.lower()}. Download the file again, or change the "
            "option sha256 when another file is meant."
        )


def _fits(config: PreTrainedConfig, accepted: Any) -> bool:
    # A model of one vision encoder also loads from the checkpoint of the whole, whose configuration contains the vision
    # encoder's.
    own = {config.model_type} | {
        part.model_type for part in vars(config).values() if isinstance(part, PreTrainedConfig)
    }
    return accepted.model_type in own
