"""`torch.compile` for frozen layers, as an option: whether it pays is measured (`benchmarks/compiled.py`), not assumed.

Layers are compiled one by one and for any sizes, so that prompts of other lengths compile nothing anew. Values differ
from uncompiled ones by roundings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from crema_core.errors import OptionsError
from crema_core.model.kernels import layers


@contextmanager
def compiled(modules: Iterable[nn.Module | None], *, enabled: bool) -> Iterator[None]:
    """Inside the block, the transformer layers of frozen modules run compiled.

    Args:
        modules: vision encoders and language models; None among them is skipped.
        enabled: False changes nothing.

    Raises:
        OptionsError: where torch cannot compile.
    """
    chosen = [layer for module in modules if module is not None for layer in layers(module)] if enabled else []
    if chosen:
        require_compiler(next(chosen[0].parameters()).device)
    for layer in chosen:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in chosen:
            layer._compiled_call_impl = None  # what nn.Module.compile sets; torch offers no way back


def require_compiler(device: torch.device) -> None:
    """Compile one addition.

    Raises:
        OptionsError: where that fails, with torch's reason.
    """
    try:
        torch.compile(lambda values: values + 1)(torch.zeros(1, device=device))
    except Exception as error:  # torch raises errors of many kinds here, all with their reason
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise OptionsError(
            f"compile_frozen=True, and torch cannot compile on this machine: {reason}. It needs a C++ compiler (g++) "
            "for CPUs, Triton for GPUs. Install one, or leave compile_frozen out."
        ) from error
