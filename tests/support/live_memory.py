"""The bytes of tensors that are alive at once, counted from their sizes: the same on every machine and allocator."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class LiveMemory(TorchDispatchMode):
    """Inside its block, follows the storage of every tensor that an operator returns, forward and backward.

    What an operator needs inside of itself is not seen.

    Args:
        given: tensors that were there before, which are not counted.

    Example:
        >>> with LiveMemory() as memory:
        ...     _ = (torch.ones(100) + 1).sum()
        >>> memory.peak
        804
    """

    def __init__(self, given: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = 0
        """Bytes that are alive now."""
        self.peak = 0
        """Most bytes that were alive at once."""
        self.at_peak = ""
        """The operator that returned when they were."""
        self._known: Any = WeakIdKeyDictionary()
        for tensor in given:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for own in tree_leaves(results):
            if isinstance(own, Tensor):
                self._follow(own.untyped_storage(), str(func))
        return results

    def _follow(self, storage: UntypedStorage, operator: str) -> None:
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        weakref.finalize(storage, self._free, size)
        self.live += size
        if self.live > self.peak:
            self.peak, self.at_peak = self.live, operator

    def _free(self, size: int) -> None:
        self.live -= size
