"""Tensors in and out of safetensors files, strict both ways; and whether there is memory for them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crema_core.common.reading import require_file, shown, why
from crema_core.errors import CheckpointError, CremaError, OutOfMemoryError, ReadError, first_line

_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "unable to allocate",
    "bad_alloc",
    "out of memory",
)
"""What allocators of torch, NumPy, C++ and the system say."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, of a device or of the machine, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower() if isinstance(error, OSError | RuntimeError | ValueError | SafetensorError) else ""
    return any(words in said for words in _NO_MEMORY)


def no_room(place: str | Path, error: BaseException) -> OutOfMemoryError | None:
    """Return the error for weights that did not fit into the memory; None when something else is wrong with them.

    Args:
        place: the file, folder or hub id of the weights.
        error: what was raised while they were read.

    Example:
        >>> no_room("model.safetensors", ValueError("no such key")) is None
        True
    """
    if isinstance(error, CremaError) or not is_out_of_memory(error):
        return None
    return OutOfMemoryError(
        f"The weights of {shown(place)} do not fit into the memory ({first_line(error)}). Needed is as much as is to "
        "be allocated; a file that is much smaller than that is damaged. Close other programs, take a smaller model or "
        "a machine with more memory, or copy a damaged file again. Nothing was changed."
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, contiguous and on the CPU."""
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file, whose checksum must be the one its config records where that is given.

    Raises:
        CheckpointError: when the file is absent, damaged, or another than the config's.
    """
    try:
        require_file(path)
        if sha256 is not None and checksum(path) != sha256:
            raise CheckpointError(
                f"'{path}' is not the file its config describes (another sha256). It was damaged or replaced. Copy "
                "the folder again. Nothing was changed."
            )
        return load_file(path)
    except (OSError, ReadError, SafetensorError, MemoryError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise no_room(path, error) or CheckpointError(
            f"'{path}' cannot be read: {_reason(error)}. It must be a complete safetensors file. Copy the folder "
            "again. Nothing was changed."
        ) from error


def read_released(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint of other code: safetensors, or a torch file whose `model` entry may hold the weights.

    Raises:
        CheckpointError: when the file is absent, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        require_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise no_room(path, error) or CheckpointError(
            f"'{path}' cannot be read: {first_line(error)}. Accepted: a torch file of tensors (it is "
            "read without executing code) or safetensors. Download it again."
        ) from error
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"'{path}' holds no weights. Accepted: a mapping of tensors, or one under the key 'model'. Pass the "
            "checkpoint file of the released code."
        )
    return dict(state)


def _reason(error: BaseException) -> str:
    return f"it {why(error)}" if isinstance(error, OSError) else first_line(error)


def checksum(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mismatches(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return one line for every missing, unknown or wrongly shaped tensor."""
    lines = [f"missing: {key}" for key in parameters if key not in state]
    lines += [f"unknown: {key}" for key in state if key not in parameters]
    lines += [
        f"shape: {key} is {tuple(state[key].shape)}, the model's is {tuple(parameter.shape)}"
        for key, parameter in parameters.items()
        if key in state and state[key].shape != parameter.shape
    ]
    return lines


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with a number that is NaN or infinite; each kind of device is asked once.

    Example:
        >>> not_finite({"a": torch.tensor([1.0, torch.nan]), "b": torch.tensor([1.0]), "c": torch.tensor([2])})
        ['a']
    """
    names = [name for name, own in tensors.items() if own.is_floating_point() and own.numel()]
    if not names:
        return []
    # The largest magnitude of a tensor is finite exactly when all its numbers are.
    largest = torch._foreach_norm([tensors[name].detach() for name in names], torch.inf)
    device = largest[0].device
    flags = torch.stack([own.isfinite().to(device) for own in largest]).tolist()
    return [name for name, fine in zip(names, flags, strict=True) if not fine]


def require_finite(tensors: Mapping[str, Tensor], *, place: str | Path) -> None:
    """Refuse weights that cannot compute anything.

    Args:
        tensors: by name.
        place: where they come from or go to, for the message.

    Raises:
        CheckpointError: naming the first tensor with a number that is NaN or infinite.
    """
    if bad := not_finite(tensors):
        own = tensors[bad[0]]
        raise CheckpointError(
            f"'{place}': {len(bad):,} of {len(tensors):,} tensors hold NaN or infinity, first '{bad[0]}' "
            f"({int((~own.isfinite()).sum()):,} of {own.numel():,} numbers). Weights must be finite. "
            "Use an earlier save, or train again with a lower lr. Nothing was changed."
        )


@torch.no_grad()
def copy_state(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Copy values into parameters; keys and shapes must agree exactly.

    Raises:
        CheckpointError: listing every disagreement; nothing is changed then.
    """
    check_state(parameters, state)
    for key, parameter in parameters.items():
        parameter.copy_(state[key])


def check_state(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse values that do not fit parameters.

    Raises:
        CheckpointError: listing every disagreement.
    """
    lines = mismatches(parameters, state)
    if lines:
        raise CheckpointError(
            f"The saved tensors do not fit this model, {len(lines)} differ:\n  "
            + "\n  ".join(lines)
            + "\nKeys and shapes must agree exactly. Build the model with the settings it was saved with. "
            "Nothing was changed."
        )


def padded(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors of one number of dimensions, each filled up at its ends: whole numbers with -1, others with NaN.

    Example:
        >>> padded([torch.tensor([1, 2]), torch.tensor([3])]).tolist()
        [[1, 2], [3, -1]]
    """
    sizes = [max(own) for own in zip(*(tensor.shape for tensor in tensors), strict=True)]
    fill = torch.nan if tensors[0].is_floating_point() else -1
    out = torch.full((len(tensors), *sizes), fill, dtype=tensors[0].dtype, device=tensors[0].device)
    for row, tensor in zip(out, tensors, strict=True):
        row[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return out


def padded_by_name(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return `padded` tensors of every name that one of the rows has; a row without it has nothing but filling."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        some = next(row[name] for row in rows if name in row)
        found[name] = padded([row[name] if name in row else some.new_empty([0] * some.dim()) for row in rows])
    return found


def unpadded(tensor: Tensor) -> Tensor:
    """Return a copy of one row of what `padded` returned, without what filled it up."""
    real = ~tensor.isnan() if tensor.is_floating_point() else tensor != -1
    sizes = []
    for dim in range(tensor.dim()):
        others = [axis for axis in range(tensor.dim()) if axis != dim]
        there = real.any(others) if others else real
        sizes.append(int(there.nonzero().max()) + 1 if bool(there.any()) else 0)
    return tensor[tuple(slice(0, size) for size in sizes)].clone()
