"""Frozen checkpoints in transformers format, read in one place: backbones, language models, the encoders of senses.

A folder and a hub id go the same way. What can go wrong outside this package (a wrong place, a damaged file, another
kind of model) becomes an error of ours, of the class the caller names. Code of a checkpoint is never run.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from crema_core.errors import CremaError, first_line

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""Anything else can only be a folder."""


class Weights(NamedTuple):
    """A model as it was read.

    Attributes:
        model: of the class asked for, in training mode or not as transformers left it.
        absent: names of weights the checkpoint lacks, sorted; they are random.
        misfit: names of weights of another shape, sorted; they are random too.
    """

    model: PreTrainedModel
    absent: tuple[str, ...]
    misfit: tuple[str, ...]


def find_config(
    place: str | Path,
    *,
    revision: str | None,
    error: type[CremaError],
    what: str,
    accepted: str,
    try_next: str,
) -> PreTrainedConfig:
    """Read the configuration of a checkpoint.

    Args:
        place: folder or hub id.
        revision: commit, tag or branch on the hub; None: the latest.
        error: class of the error.
        what: what is looked for, for the message.
        accepted: what is accepted, for the message.
        try_next: what to type next, for the message.

    Raises:
        CremaError: of the class `error`, when there is none.
    """
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as cause:
        hub = HUB_ID.fullmatch(str(place)) or Path(place).exists()
        reason = first_line(cause) if hub else "there is no such folder"
        raise error(f"No {what} was found at '{place}': {reason}. Accepted: {accepted}. {try_next}") from cause
    return config


def read_weights(
    model_class: Any,
    place: str | Path,
    *,
    revision: str | None,
    error: type[CremaError],
    dtype: torch.dtype,
    **arguments: Any,
) -> Weights:
    """Read weights, sharded or not, in `dtype` whatever the configuration says.

    Args:
        model_class: with `from_pretrained`, an Auto class too.
        place: folder or hub id.
        revision: commit, tag or branch on the hub; None: the latest.
        error: class of the error.
        dtype: of every weight.
        arguments: more for `from_pretrained`.

    Raises:
        CremaError: of the class `error`, when the files are absent or damaged, or hold another kind of model.
    """
    try:
        with _quiet():
            model, found = model_class.from_pretrained(
                place, revision=revision or "main", dtype=dtype, output_loading_info=True, **arguments
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as cause:
        raise error(
            f"The weights of '{place}' cannot be read: {first_line(cause)}. Accepted: a complete checkpoint in "
            "safetensors format. Download or copy it again."
        ) from cause
    return Weights(model, tuple(sorted(found["missing_keys"])), tuple(sorted(map(str, found["mismatched_keys"]))))


def read_json(place: str | Path, name: str, *, revision: str | None, error: type[CremaError]) -> dict[str, Any] | None:
    """Return the content of a file of settings beside the weights; None where the checkpoint has no such file.

    Raises:
        CremaError: of the class `error`, when the file is not JSON.
    """
    file = find_file(place, name, revision=revision)
    if file is None:
        return None
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as cause:
        raise error(
            f"'{file}' is not JSON ({cause}). It must be the file the checkpoint came with. Download it again."
        ) from cause
    return settings


def find_file(place: str | Path, name: str, *, revision: str | None) -> Path | None:
    """Return a file beside the weights, fetched from the hub where it is not local; None where there is none."""
    file = cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if file is None else Path(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading bar out of logs and pipes, and its notes on keys, which are checked here, to itself.

    It would say of every FlanT5, for example, that output layer and embedding should have been one, and of every tower
    that the heads it was trained with are left out.
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
