"""The repeated layers of the frozen language model: computed anew in the backward pass, or shared out over processes.

Both trade time for memory and change no number. Layers are recognised by the base class transformers gives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def layers(language_model: nn.Module) -> list[nn.Module]:
    """Return the transformer layers of a language model, encoder before decoder."""
    return [module for module in language_model.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def recomputed(language_model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Inside the block, keep only each layer's input for the backward pass and compute the layer again there.

    transformers' own switch works in train mode alone, which would turn on the frozen layers' dropout.

    Args:
        language_model: frozen; gradients go through it to its inputs.
        enabled: False changes nothing.
    """
    chosen = layers(language_model) if enabled else []
    for layer in chosen:
        layer.forward = partial(_checkpointed, layer.forward)
    try:
        yield
    finally:
        for layer in chosen:
            del layer.forward  # the class's own method is visible again


def _checkpointed(forward: Any, *arguments: Any, **named: Any) -> Any:
    given = [*arguments, *named.values()]
    if not any(isinstance(value, torch.Tensor) and value.requires_grad for value in given):
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)


def share_out(language_model: nn.Module, *, device: torch.device, count: int, whole: set[nn.Parameter]) -> None:
    """Keep a part of every layer in each process; a layer is gathered while it computes (FSDP2).

    What is outside the layers stays whole: prompts are laid out with the input embedding before the language model
    runs, and generation calls the encoder by itself.

    Args:
        language_model: equal in all processes, still on the CPU where it does not fit on one device.
        device: this process's.
        count: number of processes.
        whole: parameters every process keeps all of, because they are trained (a LoRA).
    """
    mesh = init_device_mesh(device.type, (count,))
    for layer in layers(language_model):
        fully_shard(layer, mesh=mesh, ignored_params=whole)
