"""Frozen checkpoints in transformers format, read in one place: backbones, language models, encoders of modalities.

A folder and a hub id go the same way. What can go wrong outside this package (a wrong place, a damaged file, another
kind of model) becomes an error of ours, of the class the caller names; by default `CheckpointError`. Code of a
checkpoint is never run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging
from transformers.utils.hub import cached_file

from crema_core.common.reading import A_FOLDER, inside, obstacle, read_object, shown
from crema_core.common.tensors import no_room
from crema_core.errors import CheckpointError, CremaError, ReadError, first_line
from crema_core.model.revisions import HUB_ID, MAIN, revision_of

TEMPLATE = "crema_template.json"
"""A backbone folder may carry the wording its language model knows in this file."""
BACKBONE = "crema_backbone.json"
"""File of a backbone's folder with what its configuration cannot say, see `is_pretrained`."""
FILES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")
"""Endings of the files of a checkpoint."""
# What transformers raises of files that are no checkpoint: it takes the content of config.json as it is.
_UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    StrictDataclassError,
)
RGB = tuple[float, float, float]
CLIP_MEAN: RGB = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: RGB = (0.26862954, 0.26130258, 0.27577711)


class Weights(NamedTuple):
    """A model as it was read."""

    model: PreTrainedModel  # of the class asked for, in training mode or not as transformers left it
    absent: tuple[str, ...]  # names of weights the checkpoint lacks, sorted; they are random
    misfit: tuple[str, ...]  # names of weights of another shape, sorted; they are random too


def read_config(
    place: str | Path,
    revision: str | None,
    *,
    what: str,
    accepted: str,
    try_next: str,
    error: type[CremaError] = CheckpointError,
) -> PreTrainedConfig:
    """Read the configuration of a checkpoint.

    Args:
        place: folder or hub id.
        revision: commit, tag or branch on the hub; None: the latest.
        what: what is looked for, for the message.
        accepted: what is accepted, for the message.
        try_next: what to type next, for the message.
        error: class of the error.

    Raises:
        CremaError: of the class `error`, when there is none.
    """
    require_files(place, error=error)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            place, revision=revision_of(place, revision), trust_remote_code=False
        )
    except _UNREADABLE as cause:
        hub = HUB_ID.fullmatch(str(place)) or Path(place).exists()
        reason = first_line(cause) if hub else "there is no such folder"
        raise error(f"No {what} was found at '{place}': {reason}. Accepted: {accepted}. {try_next}") from cause
    return config


def read_weights(
    model_class: Any,
    place: str | Path,
    *,
    revision: str | None,
    dtype: torch.dtype,
    error: type[CremaError] = CheckpointError,
    **arguments: Any,
) -> Weights:
    """Read weights, sharded or not, in `dtype` whatever the configuration gives.

    Args:
        model_class: with `from_pretrained`, an Auto class too.
        place: folder or hub id.
        revision: commit, tag or branch on the hub; None: the latest.
        dtype: of every weight, see `crema_core.model.precision`.
        error: class of the error.
        arguments: more for `from_pretrained`.

    Raises:
        CremaError: of the class `error`, when the files are absent or damaged, or hold another kind of model.
    """
    require_files(place, error=error)
    try:
        with _quiet():
            model, found = model_class.from_pretrained(
                place,
                revision=revision_of(place, revision) or MAIN,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
                **arguments,
            )
    except (*_UNREADABLE, SafetensorError, MemoryError) as cause:
        raise no_room(place, cause) or error(
            f"The weights of '{place}' cannot be read: {first_line(cause)}. Accepted: a complete checkpoint in "
            "safetensors format. Download or copy it again."
        ) from cause
    return Weights(model, tuple(sorted(found["missing_keys"])), tuple(sorted(map(str, found["mismatched_keys"]))))


def read_model(
    model_class: Any,
    place: str,
    revision: str | None,
    *,
    dtype: torch.dtype,
    config: PreTrainedConfig,
    quantized: Any = None,
) -> PreTrainedModel:
    """Read all weights of a model; arguments as of `read_weights`, `quantized` from `crema_core.model.quantization`.

    Raises:
        CheckpointError: when weights are absent, damaged or do not fit the configuration.
    """
    more = {} if quantized is None else {"quantization_config": quantized}
    read = read_weights(model_class, place, revision=revision, dtype=dtype, config=config, **more)
    if read.absent:
        raise CheckpointError(
            f"The weights of '{place}' are incomplete: {len(read.absent)} tensors of the configuration are not in the "
            f"files, first: {', '.join(read.absent[:3])}. Accepted: a complete checkpoint in safetensors format. "
            "Download or copy it again."
        )
    return read.model


def read_json(
    place: str | Path, name: str, *, revision: str | None, error: type[CremaError] = CheckpointError
) -> dict[str, Any] | None:
    """Return the content of a file of settings beside the weights; None where the checkpoint has no such file.

    Raises:
        CremaError: of the class `error`, when the file is not JSON.
    """
    file = find_file(place, name, revision=revision)
    if file is None:
        return None
    try:
        settings = read_object(file)
    except ReadError as cause:
        raise error(
            f"'{file}' {cause.reason}. It must be the file the checkpoint came with. Download it again."
        ) from cause
    return settings


def find_file(place: str | Path, name: str, *, revision: str | None) -> Path | None:
    """Return a file beside the weights, fetched from the hub where it is not local; None where there is none."""
    if not (HUB_ID.fullmatch(str(place)) or Path(place).exists()):
        return None  # no folder, and nothing the hub could be asked for
    file = cached_file(place, name, revision=revision_of(place, revision), _raise_exceptions_for_missing_entries=False)
    return None if file is None else Path(file)


def read_tokenizer(place: str, revision: str | None, *, subfolder: str = "") -> PreTrainedTokenizerBase:
    """Read a tokenizer.

    Raises:
        CheckpointError: when there is none, or it needs a package that is not installed.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place, revision=revision_of(place, revision), subfolder=subfolder, trust_remote_code=False
        )
    except (*_UNREADABLE, ImportError) as error:
        where = f"'{place}/{subfolder}'" if subfolder else f"'{place}'"
        raise CheckpointError(
            f"The tokenizer of {where} cannot be read: {first_line(error)}. Accepted: tokenizer.json and "
            "tokenizer_config.json as the hub has them. Download or copy the files again."
        ) from error
    return tokenizer


def require_files(place: str | Path, *, error: type[CremaError] = CheckpointError) -> None:
    """Refuse a folder in which something else than a file is where a file of a checkpoint belongs.

    A pipe or device there would be read for ever. The list of shards names files of the folder alone.

    Args:
        place: folder; of a hub id nothing is looked at.
        error: class of the error.

    Raises:
        CremaError: of the class `error`.
    """
    folder = Path(place)
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if file.suffix not in FILES or (reason := obstacle(file)) in (None, A_FOLDER):
            continue
        raise error(
            f"{shown(file)} {reason}. In the folder of a checkpoint stand files that end. Download or copy it again."
        )
    for index in folder.glob("*.index.json"):
        try:
            listed = read_object(index).get("weight_map", {})
        except ReadError as cause:
            raise error(
                f"{shown(index)} {cause.reason}. It lists the files of the weights. Download it again."
            ) from cause
        if not isinstance(listed, dict):
            raise error(f"{shown(index)} lists no files of weights. It maps tensors to files. Download it again.")
        for name in {str(own) for own in listed.values()}:
            inside(folder, name, what="a file of its weights", error=error, links=True)


def is_pretrained(place: Path) -> bool:
    """Return whether a backbone learned from real pictures and texts.

    A folder says that it did not by a file `crema_backbone.json` with `{"pretrained": false}`, as the tiny backbones do
    that know a generated world alone.

    Args:
        place: folder, or hub id.
    """
    if not (place / BACKBONE).exists():
        return True
    return (read_json(place, BACKBONE, revision=None) or {}).get("pretrained", True) is not False


def own_template(place: str, revision: str | None) -> dict[str, Any]:
    """Return the wording a checkpoint brings along, an empty mapping where it brings none.

    Raises:
        CheckpointError: when the file is not JSON.
    """
    return read_json(place, TEMPLATE, revision=revision) or {}


def image_statistics(place: str, revision: str | None) -> tuple[RGB, RGB]:
    """Return mean and standard deviation of RGB in 0..1, CLIP's where the checkpoint names none.

    Raises:
        CheckpointError: when the file that should name them is not JSON.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        found = read_json(place, name, revision=revision) or {}
        settings = found.get("image_processor", found)
        if "image_mean" in settings:
            return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return CLIP_MEAN, CLIP_STD


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading bar out of logs and pipes, and its notes on keys, which are checked here, to itself.

    It would say of every FlanT5, for example, that output layer and embedding should have been one, and of every vision
    encoder that the heads it was trained with are left out.
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
