"""Local files of weights: read without pickles, and compared with the model they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crema_core.common.tensors import no_room
from crema_core.errors import AssetError, first_line


def read_state(weights: str, *, accepted: str) -> dict[str, Tensor]:
    """Read a file of tensors.

    Args:
        weights: path of a .safetensors file, or of one that torch wrote; a training checkpoint's "state_dict" counts.
        accepted: what is accepted, for the message.

    Raises:
        AssetError: when it cannot be read.
    """
    path = Path(weights)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
        state = found.get("state_dict", found) if isinstance(found, dict) else found
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except Exception as error:
        raise no_room(path, error) or AssetError(
            f"'{path}' cannot be read as weights: {first_line(error)}. Accepted: {accepted}. Download it again and "
            "pass its path."
        ) from error
    return state


def refuse_other_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, weights: str | None, name: str, accepted: str
) -> None:
    """Raise unless a file's tensors are exactly those of a model.

    Args:
        model: they are for.
        state: the file's.
        weights: the file, for the message.
        name: the model's, for the message.
        accepted: what is accepted and what to type next, for the message.

    Raises:
        AssetError: for missing, unknown or wrongly shaped tensors.
    """
    own = model.state_dict()
    wrong = sorted(key for key in own.keys() | state.keys() if key not in own or key not in state)
    wrong += sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    if wrong:
        raise AssetError(
            f"'{weights}' does not hold the weights of {name}: {len(wrong)} keys differ, first: {wrong[0]}. "
            f"Accepted: {accepted}."
        )
