"""Counting the arithmetic of a pass without doing it.

The operations, and what each costs, are those of torch's own counter (`torch.utils.flop_counter`): matrix products,
convolutions and attention, a multiply-add counted as two. In components that are not `real` such an operation returns
one zero seen through the right shape instead of its result, and what is done to large tensors number by number is left
out too, so that a model with billions of parameters is counted in a second on any device; everything around it (masks,
lengths, layouts) is computed, so that the pass takes its real course.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_NUMBER_BY_NUMBER = frozenset({_aten.native_layer_norm, _aten._softmax, _aten.clone, _aten._to_copy, _aten.mean})
"""Operations without cost that read and write every number, beside those torch calls pointwise."""
_GROUPED = ("aten._grouped_mm", "transformers.grouped_mm_fallback")
"""Products of a mixture's experts, torch's and what transformers has where torch's does not run."""


class FlopMeter(TorchDispatchMode):
    """Adds up operations by the component that is running.

    Args:
        default: the component that gets what happens outside all named ones; may be changed on the way.
    """

    def __init__(self, default: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: defaultdict[str, int] = defaultdict(int)  # operations by component
        self.default = default
        self._running: list[tuple[str, bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        component, skip = self.running
        if str(func.overloadpacket) in _GROUPED:
            return self._grouped(func, args, kwargs)
        cost = flop_registry.get(func.overloadpacket)
        if cost is None:
            if not skip:
                return func(*args, **kwargs)
            if func._schema.is_mutable:  # what was left out cannot be written to, and need not be
                return args[0] if _is_repeated(args[0]) else func(*args, **kwargs)
            if func.overloadpacket is _aten.view_as_complex and _is_repeated(args[0]):
                return _zeros_like_result(func, args, kwargs)
            by_number = torch.Tag.pointwise in func.tags or func.overloadpacket in _NUMBER_BY_NUMBER
            # What was computed may decide what runs next (which pictures have padding), and is computed on.
            if by_number and any(_is_large(own) and _is_repeated(own) for own in args):
                return _zeros_like_result(func, args, kwargs)
            return func(*args, **kwargs)
        out = _zeros_like_result(func, args, kwargs) if skip else func(*args, **kwargs)
        self.flops[component] += int(cost(*args, **kwargs, out_val=out))
        return out

    def _grouped(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Count the product of a mixture's experts, each row with the matrix of one, which torch's counter leaves out.

        Args:
            func: of the product.
            args: `(S, K)` rows and `(experts, K, N)` matrices first.
            kwargs: of the product.
        """
        component, skip = self.running
        rows, weights = args[:2]
        self.flops[component] += 2 * rows.shape[0] * rows.shape[1] * weights.shape[2]
        if skip:
            return rows.new_zeros(()).expand(rows.shape[0], weights.shape[2])
        return func(*args, **kwargs)

    def enter(self, component: str, skip: bool, *_: object) -> None:
        """Count for `component` from now on; the hook before a module."""
        self._running.append((component, skip))

    def leave(self, *_: object) -> None:
        """Count for what was running before; the hook behind a module."""
        self._running.pop()

    @property
    def running(self) -> tuple[str, bool]:
        """The component that is counted for now, and whether it is only counted."""
        return self._running[-1] if self._running else (self.default, False)


class _Attention(TorchFunctionMode):
    """Counts attention that is only counted as a whole: its weights would be one number for every pair of tokens."""

    def __init__(self, meter: FlopMeter) -> None:
        super().__init__()
        self._meter = meter

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        component, skip = self._meter.running
        if func is not torch.nn.functional.scaled_dot_product_attention or not skip:
            return func(*args, **kwargs)
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        query, key, value = given["query"], given["key"], given["value"]
        shape = (*query.shape[:-1], value.shape[-1])
        cost = 2 * query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        self._meter.flops[component] += cost
        return query.new_zeros(()).expand(shape)


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
                begin, end = partial(meter.enter, name, name not in real), meter.leave
                stack.callback(module.register_forward_pre_hook(begin).remove)
                stack.callback(module.register_forward_hook(end, always_call=True).remove)
        # Fused attention kernels of the CPU are unknown to torch's counter; in parts the products are seen.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.no_grad())
        stack.enter_context(meter)
        stack.enter_context(_Attention(meter))
        yield meter


def _zeros_like_result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found: list[torch.device] = []

    def to_meta(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor.device)
        return torch.empty_like(tensor, device="meta", memory_format=torch.contiguous_format)

    meta_args, meta_kwargs = tree_map_only(torch.Tensor, to_meta, (args, kwargs))
    place = found[0]
    if meta_kwargs.get("device") is not None:  # a copy to a device: where the result is, not where its shape is found
        place, meta_kwargs["device"] = meta_kwargs["device"], torch.device("meta")
    out = func(*meta_args, **meta_kwargs)
    return tree_map_only(
        torch.Tensor, lambda tensor: torch.zeros((), dtype=tensor.dtype, device=place).expand(tensor.shape), out
    )


def _is_repeated(tensor: Any) -> bool:
    """Whether one number is seen at many places of a tensor, as in what is left out."""
    return isinstance(tensor, torch.Tensor) and tensor.numel() > 1 and 0 in tensor.stride()


def _is_large(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.numel() > 1 << 16 and tensor.is_floating_point()
