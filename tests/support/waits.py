"""Counts what makes a program wait for its device, on a machine without one.

On the CPU nothing is waited for, but the same operations are called. `_local_scalar_dense`, `nonzero` and their like
are seen where they are dispatched; a copy to the host dispatches nothing here and is seen where it is called. What the
host knows of a `KnownTensor` it has from no device, and is not counted.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from linecache import getline
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from crema_core.common import known
from crema_core.common.known import values_of

READS = frozenset(
    "aten::_local_scalar_dense aten::is_nonzero aten::item aten::equal aten::nonzero aten::masked_select "
    "aten::repeat_interleave aten::_unique2 aten::unique_consecutive aten::unique_dim".split()
)
WRITES = frozenset(["aten::index_put", "aten::index_put_", "aten::_index_put_impl_"])
COPIES = frozenset(["cpu", "numpy", "tolist"])


class _Dispatched(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        # Repeats that are a number, and masks that are filled with one number, ask nothing of the device.
        reads = name in READS and func._overloadname != "self_int"
        if name == "aten::index" or (name in WRITES and args[2].dim()):
            reads = any(one is not None and one.dtype == torch.bool for one in args[1])
        if reads:
            _note(self.found, name)
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        read = args[:1] if name in COPIES else args[0] if name == "tensor" and isinstance(args[0], list | tuple) else ()
        if any(isinstance(one, Tensor) and values_of(one) is None for one in read):
            _note(self.found, name)
        return func(*args, **(kwargs or {}))


def _note(found: Counter[str], name: str) -> None:
    """Count a wait at the line of this project that it is made for, and at the line that calls torch."""
    frames = [(frame, line) for frame, line in traceback.walk_stack(None) if frame.f_code.co_filename != __file__]
    codes = [frame.f_code for frame, _ in frames]
    if any("/torch/optim/" in code.co_filename for code in codes):  # AdamW counts its steps on the CPU
        return
    if any(code.co_filename == known.__file__ and (code.co_name == "on_host" or name == "numpy") for code in codes):
        return  # numbers of the host
    calls = [(frame.f_code.co_filename, line) for frame, line in frames if "/torch/" not in frame.f_code.co_filename]
    ours = [call for call in calls if "site-packages" not in call[0]]
    places = [f"{Path(file).name}:{line} {getline(file, line).strip()}" for file, line in (*ours[:1], *calls[:1])]
    found[f"{name} at {' > '.join(dict.fromkeys(places))}"] += 1


@contextmanager
def waits() -> Iterator[Counter[str]]:
    """Count inside the block; yielded are the counts by operation and place."""
    found: Counter[str] = Counter()
    with _Called(found), _Dispatched(found):
        yield found


def listed(found: Counter[str]) -> str:
    """Return the counts, one a line."""
    return "\n".join(f"{count:4} {place}" for place, count in found.most_common()) or "none"
