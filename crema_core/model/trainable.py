"""Which parameters are trainable: the only module that touches `requires_grad`.

peft changes `requires_grad` as a side effect of injecting and activating adapters, differently from version to
version; here the whole set is written every time, so nothing depends on that.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from torch import Tensor, nn


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


def collecting(values: Tensor) -> Tensor:
    """Return the same numbers without the graph behind them, as a tensor that collects its gradient."""
    return values.detach().requires_grad_()


def names_of(model: nn.Module, parameters: Iterable[nn.Parameter]) -> set[str]:
    """Return the names in `model` of the given parameters, found by identity."""
    wanted = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}
