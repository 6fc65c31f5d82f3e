"""Tensors on a device whose values the host knows too: masks, lengths and positions.

A program that reads a tensor of a device (`bool(mask.all())`, `mask.nonzero()`, `values[mask]`) waits until the device
has computed all that was asked of it before, and the device then waits for the program. Which samples have a modality
and which steps are real was known when the minibatch was made. `KnownTensor` keeps these values beside the tensor, and
what is made of known tensors alone, by the operations masks pass, is known again. Reading it waits for nothing, in code
of ours, of transformers and of packages alike, which see an ordinary tensor. All other operations give ordinary ones.

On the CPU both are the same numbers, and the same code runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

Result = TypeVar("Result")

_MOVES = frozenset(
    "__getitem__ select narrow index_select gather expand expand_as flatten unflatten reshape view squeeze unsqueeze "
    "transpose permute repeat repeat_interleave cat stack split chunk unbind pad clone contiguous detach index_copy "
    "to".split()
)
"""Operations that move numbers and compute none."""
_EXACT = frozenset(
    "__and__ __or__ __invert__ logical_and logical_or logical_not __eq__ __ne__ __lt__ __le__ __gt__ __ge__ eq ne lt "
    "le gt ge add sub __add__ __radd__ __sub__ __rsub__ clamp sum any all max min prod sort isnan isfinite int long "
    "bool new_zeros new_ones new_full zeros_like ones_like full_like index_fill masked_fill".split()
)
"""Operations that give the same whole numbers and truth values on every device."""
_MOST_DIMENSIONS = 3
"""Masks of attention have more. They are given to layers, which may be compiled, and nobody reads them."""


class KnownTensor(Tensor):
    """A tensor whose values the host knows, made by `known` or `to_device`; saved or copied it is an ordinary one."""

    _on_host: Tensor  # on the host; on the CPU the tensor itself
    _at_version: int  # how often the tensor had been changed in place when it had these values

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do an operation of torch; what the host can say is asked of the host."""
        named, name = kwargs or {}, func.__name__
        with torch._C.DisableTorchFunctionSubclass():
            if name == "__get__":  # shape, device and the like
                return func(*args, **named)
            first = values_of(args[0]) if args else None
            if first is not None and name in _READ and (name == "tolist" or first.numel() == 1):
                return _READ[name](first)
            if first is not None and name == "cpu":
                return args[0] if args[0].device.type == "cpu" else first.clone()
            if first is not None and name == "nonzero":
                return _nonzero(args[0].device, first, *args[1:], **named)
            if name in ("__getitem__", "__setitem__"):
                args = [args[0], _positions(args[1]), *args[2:]]
            result = func(*args, **named)
            return _followed(func, name, args, named, result)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return copy.deepcopy(plain(self), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return plain(self).__reduce_ex__(protocol)


def known(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors with their values known on the host: the device is read, and waited for, once for all of them.

    Those that are known already, and those that cannot be, are returned as they are.

    Args:
        tensors: truth values, whole numbers or float32, without a gradient.

    Example:
        >>> (mask,) = known([torch.tensor([[True, True], [True, False]])])
        >>> bool(mask.all()), mask.sum(1).tolist()
        (False, [2, 1])
    """
    places = [place for place, own in enumerate(tensors) if _may_be_known(own) and values_of(own) is None]
    found = list(tensors)
    if not places:
        return found
    with torch._C.DisableTorchFunctionSubclass():
        rows = [tensors[place].detach().reshape(-1).contiguous().view(torch.uint8) for place in places]
        of_host = torch.cat(rows).cpu().split([len(row) for row in rows])
        for place, row in zip(places, of_host, strict=True):
            own = tensors[place]
            found[place] = _joined(own, row.clone().view(own.dtype).view(own.shape))
    return found


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, its values known where it comes from the CPU; no device is waited for then."""
    # Not from pinned memory, so the numbers have left `values` when the call returns.
    moved = values.to(device, non_blocking=values.device.type == "cpu")
    if values.device.type != "cpu" or not _may_be_known(values) or values_of(moved) is not None:
        return moved
    with torch._C.DisableTorchFunctionSubclass():
        return _joined(moved, values)


def on_host(function: Callable[..., Result], *args: Any, device: torch.device, **named: Any) -> Result:
    """Return what a function of known tensors gives, computed on the host; with others it is called as it is.

    For long functions of others that read tensors again and again; what they give are ordinary tensors.

    Args:
        function: gives a tensor, or several in a tuple, the same whole numbers wherever they are computed.
        args, named: its arguments, tensors and others.
        device: where its tensors are wanted.
    """
    if any(values_of(own) is None for own in _tensors((*args, *named.values()))):
        return function(*args, **named)
    found = function(*_copies(args), **{key: _copies(own) for key, own in named.items()})
    return cast(Result, _mapped(found, lambda own: own.to(device, non_blocking=True)))


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor as an ordinary one; the numbers are shared."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def _may_be_known(tensor: Tensor) -> bool:
    half = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
    return not (half or tensor.requires_grad or tensor.is_inference())


def values_of(thing: object) -> Tensor | None:
    """Return the values of a known tensor, on the CPU; None of all others, and of one that was changed in place."""
    if not isinstance(thing, KnownTensor):
        return None
    with torch._C.DisableTorchFunctionSubclass():
        return thing._on_host if thing._version == thing._at_version else None


def _joined(tensor: Tensor, values: Tensor) -> KnownTensor:
    found = tensor.as_subclass(KnownTensor)
    found._on_host = tensor.as_subclass(Tensor) if tensor.device.type == "cpu" else values
    found._at_version = tensor._version
    return found


_READ: dict[str, Callable[[Tensor], Any]] = {
    "__bool__": lambda values: bool(values.numpy().item()),
    "__int__": lambda values: int(values.numpy().item()),
    "__index__": lambda values: int(values.numpy().item()),
    "__float__": lambda values: float(values.numpy().item()),
    "item": lambda values: values.numpy().item(),
    "tolist": lambda values: values.numpy().tolist(),
}


def _nonzero(device: torch.device, values: Tensor, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
    columns = tuple(
        _joined(own.to(device, non_blocking=True), own) for own in map(torch.from_numpy, np.nonzero(values.numpy()))
    )
    if as_tuple:
        return columns
    together = torch.from_numpy(np.argwhere(values.numpy()))
    return _joined(together.to(device, non_blocking=True), together)


def _positions(index: Any) -> Any:
    """Return an index with positions in place of known masks, for which torch would look on the device."""
    found: list[Any] = []
    for one in index if isinstance(index, tuple) else (index,):
        values = values_of(one)
        if values is not None and values.dtype == torch.bool and values.dim():
            found += cast("tuple[Tensor, ...]", _nonzero(one.device, values, as_tuple=True))
        else:
            found.append(one)
    return tuple(found) if isinstance(index, tuple) or len(found) > 1 else found[0]


def _followed(func: Callable[..., Any], name: str, args: Sequence[Any], named: Mapping[str, Any], result: Any) -> Any:
    """Return the result of an operation, known where it follows from what is known."""
    if name not in _MOVES | _EXACT or "out" in named:
        return result
    outcomes = result if isinstance(result, tuple | list) else [result]
    if any(not isinstance(own, Tensor) or own.dim() > _MOST_DIMENSIONS or own.requires_grad for own in outcomes):
        return result
    if name not in _MOVES and any(own.is_floating_point() for own in outcomes):
        return result  # another device sums in another order
    if name == "sort" and not named.get("stable"):
        return result
    if name != "to" and "device" in named:
        return result
    given = list(_tensors((*args, *named.values())))
    if any(values_of(own) is None for own in given):
        return result
    if any(own is result for own in given):
        return result
    if all(own.device.type == "cpu" for own in outcomes):
        values = outcomes
    elif name == "to":
        values = [cast(Tensor, values_of(args[0])).to(outcomes[0].dtype)]
    else:
        of_host = func(*_hosts(list(args)), **{key: _hosts(own) for key, own in named.items()})
        values = of_host if isinstance(of_host, tuple | list) else [of_host]
    joined = [_joined(own, host) for own, host in zip(outcomes, values, strict=True)]
    if isinstance(result, Tensor):
        return joined[0]
    return joined if type(result) is list else type(result)(joined)


def _tensors(things: Any) -> Iterator[Tensor]:
    for one in things:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, tuple | list):
            yield from _tensors(one)


def _hosts(thing: Any) -> Any:
    return _mapped(thing, values_of)


def _copies(thing: Any) -> Any:
    return _mapped(thing, lambda own: cast(Tensor, values_of(own)).clone())


def _mapped(thing: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(thing, Tensor):
        return change(thing)
    return type(thing)(_mapped(one, change) for one in thing) if isinstance(thing, tuple | list) else thing
