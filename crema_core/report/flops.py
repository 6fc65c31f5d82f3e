"""Counting the arithmetic of a pass without doing it.

The operations, and what each costs, are those of torch's own counter (`torch.utils.flop_counter`): matrix products,
convolutions and attention, a multiply-add counted as two. In components that are not `real` such an operation returns
zeros of the right shape instead of its result, so that a model with billions of parameters is counted in a second on
any device; everything around it (masks, lengths, layouts) is computed, so that the pass takes its real course.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry


class FlopMeter(TorchDispatchMode):
    """Adds up operations by the component that is running.

    Args:
        default: the component that gets what happens outside all named ones; may be changed on the way.

    Attributes:
        flops: operations by component.
    """

    def __init__(self, default: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: defaultdict[str, int] = defaultdict(int)
        self.default = default
        self._running: list[tuple[str, bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        cost = flop_registry.get(func.overloadpacket)
        if cost is None:
            return func(*args, **kwargs)
        component, skip = self._running[-1] if self._running else (self.default, False)
        out = _zeros_like_result(func, args, kwargs) if skip else func(*args, **kwargs)
        self.flops[component] += int(cost(*args, **kwargs, out_val=out))
        return out

    def enter(self, component: str, *, skip: bool) -> None:
        """Count for `component` from now on."""
        self._running.append((component, skip))

    def leave(self) -> None:
        """Count for what was running before."""
        self._running.pop()


@contextmanager
def measure(
    components: Mapping[str, Sequence[nn.Module]], *, real: frozenset[str], default: str
) -> Iterator[FlopMeter]:
    """Count the operations inside the block.

    Args:
        components: modules by the component they belong to; of nested ones the innermost counts.
        real: components that are computed for real.
        default: component of what runs outside these modules, for real.
    """
    meter = FlopMeter(default)
    with ExitStack() as stack:
        for name, modules in components.items():
            for module in modules:
                stack.callback(module.register_forward_pre_hook(_enter(meter, name, skip=name not in real)).remove)
                stack.callback(module.register_forward_hook(_leave(meter), always_call=True).remove)
        # Fused attention kernels of the CPU are unknown to torch's counter; in parts the products are seen.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.no_grad())
        stack.enter_context(meter)
        yield meter


def _enter(meter: FlopMeter, name: str, *, skip: bool) -> Callable[..., None]:
    return lambda module, arguments: meter.enter(name, skip=skip)


def _leave(meter: FlopMeter) -> Callable[..., None]:
    return lambda module, arguments, output: meter.leave()


def _zeros_like_result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found: list[torch.device] = []

    def to_meta(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor.device)
        return tensor.to("meta")

    meta_args, meta_kwargs = tree_map_only(torch.Tensor, to_meta, (args, kwargs))
    out = func(*meta_args, **meta_kwargs)
    return tree_map_only(torch.Tensor, lambda tensor: torch.zeros_like(tensor, device=found[0]), out)
