"""What frozen weights are, in one number: proof that training left them alone, and how checkpoints know them again."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module, *, dtype: torch.dtype | None = None, skip: str | None = None) -> str:
    """Return a sha256 over a module's state without LoRA, independent of the device.

    Args:
        module: whose state is hashed; meta tensors count by shape alone.
        dtype: floating-point values are rounded to it first; None for exact values.
        skip: start of names to leave out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if ".lora_" in name or (skip is not None and name.startswith(skip)):
            continue
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name.replace('.base_layer', '')}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        if tensor.device.type != "meta":
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
