"""Checkpoints of the released MERV code: one torch file with the weights of all trained parts.

Encoders are never in it; the optimizer is left aside. Names of earlier versions of that code are understood.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crema_core.common.tensors import no_room
from crema_core.errors import CheckpointError, first_line
from crema_merv.released import ReleasedParts, State

_PARTS = ("projectors", "projector", "feature_fusion", "adapter", "llm_backbone")


def read_released_merv(path: str | Path) -> ReleasedParts:
    """Read `latest-checkpoint.pt` or a `step-...pt` of a released run; no code in it is executed.

    Args:
        path: the file; its large tensors are mapped, not read, until they are used.

    Raises:
        CheckpointError: when the file is absent, damaged, holds more than tensors, or is of another layout.
    """
    path = Path(path)
    try:
        mapped = zipfile.is_zipfile(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise no_room(path, error) or CheckpointError(
            f"'{path}' cannot be read: {first_line(error)}. Accepted: a torch file of the released MERV code (it is "
            "read without executing code). Download it again."
        ) from error
    model = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping) or not ({"projectors", "projector"} & set(model)):
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        inside = f", and in its 'model' {', '.join(map(str, model))}" if isinstance(model, Mapping) else ""
        raise CheckpointError(
            f"'{path}' is no checkpoint of MERV: it holds {found or 'nothing'}{inside}. Accepted: a file whose 'model' "
            "holds 'projectors'. Pass a file of the folder 'checkpoints' of a released run."
        )
    step = content.get("step")
    states = {name: _tensors(path, name, model[name]) for name in _PARTS if name in model}
    projectors = states.get("projectors") or {f"0.{key}": value for key, value in states.get("projector", {}).items()}
    fusion = states.get("feature_fusion") or states.get("adapter", {})
    language = {key.removeprefix("llm."): value for key, value in states.get("llm_backbone", {}).items()}
    return ReleasedParts(_by_index(path, projectors), fusion, language, step if isinstance(step, int) else None)


def _tensors(path: Path, name: str, state: object) -> State:
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"'{path}' holds no weights under 'model', '{name}'. Accepted: a mapping of tensors. Download it again."
        )
    return dict(state)


def _by_index(path: Path, state: State) -> tuple[State, ...]:
    grouped: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        found = re.fullmatch(r"(\d+)\.(.+)", key)
        if found is None:
            raise CheckpointError(
                f"'{path}' has the projector weight '{key}'. Accepted: names that begin with the number of an encoder, "
                "such as '0.projector.projector.weight'. Pass a checkpoint of the released code."
            )
        grouped.setdefault(int(found[1]), {})[found[2]] = value
    if sorted(grouped) != list(range(len(grouped))) or not grouped:
        numbers = ", ".join(map(str, sorted(grouped))) or "none"
        raise CheckpointError(
            f"'{path}' has projectors of the encoders {numbers}. Accepted: 0, 1 and so on without a gap. Pass a "
            "complete checkpoint."
        )
    return tuple(grouped[index] for index in range(len(grouped)))
