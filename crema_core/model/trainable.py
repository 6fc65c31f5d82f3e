"""Which parameters are trainable, the only module that touches `requires_grad`, and what the frozen ones are.

peft changes `requires_grad` as a side effect of injecting and activating adapters, differently from version to
version; here the whole set is written every time, so nothing depends on that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def set_trainable(model: nn.Module, names: AbstractSet[str]) -> None:
    """Make a parameter trainable if and only if its name is in `names`.

    Args:
        model: any module.
        names: names as in `model.named_parameters()`.
    """
    known = dict(model.named_parameters())
    assert names <= known.keys(), f"unknown parameters: {sorted(names - known.keys())[:3]}"
    for name, parameter in known.items():
        parameter.requires_grad_(name in names)


def freeze(module: nn.Module) -> None:
    """Make no parameter of `module` trainable."""
    set_trainable(module, frozenset())


@contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside the block, what is computed sends no gradient to these parameters; graphs built before still do."""
    moving = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def collecting(values: Tensor) -> Tensor:
    """Return the same numbers without the graph behind them, as a tensor that collects its gradient."""
    return values.detach().requires_grad_()


def names_of(model: nn.Module, parameters: Iterable[nn.Parameter]) -> set[str]:
    """Return the names in `model` of the given parameters, found by identity."""
    wanted = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def fingerprint(module: nn.Module, *, dtype: torch.dtype | None = None, skip: tuple[str, ...] = ()) -> str:
    """Return a sha256 over a module's state without LoRA, independent of the device.

    It proves that training left frozen weights alone, and checkpoints know them again by it.

    Args:
        module: whose state is hashed; meta tensors count by shape alone.
        dtype: floating-point values are rounded to it first; None for exact values.
        skip: starts of names to leave out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if ".lora_" in name or name.startswith(skip):
            continue
        for part in _plain(tensor):
            if dtype is not None and part.is_floating_point() and part is tensor:
                part = part.to(dtype)
            digest.update(f"{name.replace('.base_layer', '')}:{tuple(part.shape)}:{part.dtype}".encode())
            if part.device.type != "meta":
                digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(tensor: Tensor) -> list[Tensor]:
    """Return a tensor, or those that a quantised one is made of."""
    if not bool(is_traceable_wrapper_subclass(tensor)):
        return [tensor]
    quantised: Any = tensor
    names, _ = quantised.__tensor_flatten__()
    return [part for name in names for part in _plain(getattr(tensor, name))]
