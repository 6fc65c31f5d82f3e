"""The same numbers from frozen language models in less time or memory.

Two ways are put in where a backbone is made. T5's gated feed-forward (FlanT5, every BLIP-2 with it) writes the tanh
approximation of GELU as eight elementwise operations, most of which keep a tensor for the backward pass. torch has the
same function as one kernel: 0.021 s instead of 0.039 s forward and backward for 8 x 317 x 1024 float32 on one CPU core,
with differences of a few float32 roundings (below 3e-7 on values of order one).

T5 has one position bias for all layers of a stack, and each layer would put it together with the mask anew: where
prompts differ in length a `(B, H, S, S)` tensor, which the layer keeps for its backward pass. Put together once, all
layers keep the same one.

A third is the trainer's: layers computed anew in the backward pass, which trades time for memory.

Shape letters: B samples, H heads, S positions that attend, K positions attended to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

SHARED_BIAS = "sdpa_with_shared_bias"
"""What transformers knows the attention by."""


class _Together(NamedTuple):
    """A position bias and the mask it was put together with."""

    mask: Tensor | None
    bias: Tensor


_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def fuse_activations(model: nn.Module) -> int:
    """Replace every spelled-out GELU in `model` by torch's kernel, in place.

    Args:
        model: a frozen model from transformers.

    Returns:
        how many were replaced.
    """
    found = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, NewGELUActivation)
    ]
    for parent, name in found:
        setattr(parent, name, GELUTanh())
    return len(found)


def share_position_bias(model: PreTrainedModel) -> bool:
    """Let the layers of an encoder-decoder `model` share one tensor of position bias and mask, in place.

    Returns:
        whether that changed anything: not so for other models and other attention than torch's fused one.
    """
    if not model.config.is_encoder_decoder or model.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(SHARED_BIAS, _attention)
    AttentionMaskInterface.register(SHARED_BIAS, sdpa_mask)
    model.set_attn_implementation(SHARED_BIAS)
    return True


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    position_bias: Tensor | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    # A decoder without padding needs the causal half too; it is short, and transformers sees to it.
    asked = arguments.get("is_causal")
    causal = attention_mask is None and (getattr(module, "is_causal", True) if asked is None else asked)
    if position_bias is not None and not causal and not torch.compiler.is_compiling():
        attention_mask, position_bias = _together(position_bias, attention_mask), None
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, position_bias=position_bias, **arguments
    )
    return result


def _together(bias_1HSK: Tensor, mask: Tensor | None) -> Tensor:
    """Return the bias with the mask in it, the same tensor for the same two; it lives as long as the bias."""
    known: _Together | None = _known.get(bias_1HSK)
    if known is not None and known.mask is mask:
        return known.bias
    if mask is None:
        bias = bias_1HSK.contiguous()
    elif mask.dtype == torch.bool:
        bias = torch.where(mask, bias_1HSK, torch.finfo(bias_1HSK.dtype).min)
    else:
        bias = bias_1HSK + mask
    if bias is not bias_1HSK:  # a value that is its own key would never be freed
        _known[bias_1HSK] = _Together(mask, bias)
    return bias


def layers(language_model: nn.Module) -> list[nn.Module]:
    """Return the transformer layers of a language model, encoder before decoder, known by transformers' base class."""
    return [module for module in language_model.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def activation_checkpointing(language_model: nn.Module, *, enabled: bool) -> Iterator[None]:
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
