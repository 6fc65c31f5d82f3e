"""Weights of the learned point encoder: a released file, the folder it is in, or its place on the hub."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

from crema_3d.pointbert import HEAD_WIDTH, PointBert
from crema_core.common.tensors import mismatches, no_room
from crema_core.errors import AssetError, first_line
from crema_core.model.pretrained import require_digest
from crema_core.model.revisions import revision_of
from crema_core.model.trainable import freeze

SUFFIXES = (".pt", ".pth", ".safetensors")
ACCEPTED = f"a file ({', '.join(SUFFIXES)}), the folder it is in, or OWNER/NAME/FILE on the hub"
TRY = "datasets/SFXX/ulip/ULIP-2/models/ULIP-2-PointBERT-10k-colored-pc-pretrained.pt"
PREFIX = "point_encoder."
"""What the encoder's weights are called in a checkpoint of ULIP, beside projections and the text model."""


def load_point_bert(weights: str | None, *, revision: str | None = None, sha256: str | None = None) -> PointBert:
    """Load the encoder, frozen and in eval mode; nothing in the file is executed.

    Args:
        weights: file, folder, or hub reference: `OWNER/NAME/FILE`, with `datasets/` before it for a data set.
        revision: commit, tag or branch on the hub.
        sha256: digest the file must have; None: any.

    Raises:
        AssetError: when the file is not there, cannot be read, has another digest, or holds other weights.
    """
    path = find_weights(weights, revision=revision)
    require_digest(path, sha256)
    state = read_encoder_state(path)
    try:
        model = PointBert(state)
    except (KeyError, ValueError) as error:
        raise _other_weights(path, [f"missing: {first_line(error)}"]) from error
    lines = mismatches(model.state_dict(), state)
    if model.feature_dim % HEAD_WIDTH:
        lines.append(f"width: {model.feature_dim} is no multiple of {HEAD_WIDTH}, the width of an attention head")
    if lines:
        raise _other_weights(path, lines)
    model.load_state_dict(state)
    freeze(model)
    return model.eval()


def find_weights(weights: str | None, *, revision: str | None = None) -> Path:
    """Return the file of weights, fetched from the hub where it is not local.

    Raises:
        AssetError: when there is none, or a folder has several.
    """
    if weights is None:
        raise AssetError(
            f"encoder='pointbert' was chosen without weights. It needs a checkpoint of ULIP: {ACCEPTED}. Pass "
            f"{{'name': 'pointcloud', 'encoder': 'pointbert', 'weights': '{TRY}'}}."
        )
    path = Path(weights)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if len(found) != 1:
            raise AssetError(
                f"The folder '{weights}' holds {len(found)} files of weights. One is needed ({', '.join(SUFFIXES)}). "
                "Name the file itself."
            )
        return found[0]
    parts = weights.split("/")
    kind = "dataset" if parts[0] == "datasets" else "model"
    owner = parts[1:3] if kind == "dataset" else parts[:2]
    name = "/".join(parts[3:] if kind == "dataset" else parts[2:])
    if path.is_file() or path.is_absolute() or not name:
        return path
    try:
        place = "/".join(owner)
        commit = revision_of(f"datasets/{place}" if kind == "dataset" else place, revision)
        return Path(str(cached_file(place, name, revision=commit, repo_type=kind)))
    except (OSError, ValueError) as error:
        raise AssetError(
            f"No weights were found at '{weights}': {first_line(error)}. Accepted: {ACCEPTED}. Check the name, or "
            "download the file and name it."
        ) from error


def read_encoder_state(path: Path) -> dict[str, Tensor]:
    """Return the encoder's weights out of a checkpoint of the whole ULIP model, or of the encoder alone.

    Raises:
        AssetError: when the file cannot be read.
    """
    try:
        content = _read(path)
        state = content.get("state_dict", content)
        named = {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:
        raise no_room(path, error) or AssetError(
            f"'{path}' cannot be read as weights: {first_line(error)}. Accepted: {ACCEPTED}. Download it again and "
            "pass its path."
        ) from error
    own = {key.removeprefix(PREFIX): value for key, value in named.items() if key.startswith(PREFIX)}
    return own or named


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        return load_file(path)
    # The released files also keep the arguments of their training, a plain namespace.
    with torch.serialization.safe_globals([Namespace]):
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _other_weights(path: Path, lines: list[str]) -> AssetError:
    shown = lines[:5] + ([f"... and {len(lines) - 5} more"] if len(lines) > 5 else [])
    return AssetError(
        f"'{path}' does not hold the weights of a Point-BERT, {len(lines)} differ:\n  "
        + "\n  ".join(shown)
        + f"\nAccepted: a checkpoint of ULIP or ULIP-2 with Point-BERT as its point encoder. Pass for example '{TRY}'."
    )
