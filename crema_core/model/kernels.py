"""The same numbers from frozen language models in less time or memory.

Two ways are put in where a backbone is made. T5's gated feed-forward (FlanT5, every BLIP-2 with it) writes the tanh
approximation of GELU as eight elementwise operations, most of which keep a tensor for the backward pass. torch has the
same function as one kernel: 0.021 s instead of 0.039 s forward and backward for 8 x 317 x 1024 float32 on one CPU core,
with differences of a few float32 roundings (below 3e-7 on values of order one).

T5 has one position bias for all layers of a stack, and each layer would put it together with the mask anew: where
prompts differ in length a `(B, H, S, S)` tensor, which the layer keeps for its backward pass. Put together once, all
layers keep the same one.

Two more are the trainer's: layers computed anew in the backward pass, which trades time for memory, and compiled ones.

Shape letters: B samples, H heads, S positions that attend, K positions attended to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from crema_core.errors import OptionsError
from crema_core.model.bf16_kernels import attention

SHARED_BIAS = "sdpa_with_shared_bias"
"""What transformers knows the attention by."""


_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""By position bias, the mask it was put together with and the two together."""


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
    return attention(module, query, key, value, attention_mask, position_bias=position_bias, **arguments)


def _together(bias_1HSK: Tensor, mask: Tensor | None) -> Tensor:
    """Return the bias with the mask in it, the same tensor for the same two; it lives as long as the bias."""
    of_mask, known = _known.get(bias_1HSK, (None, None))
    if known is not None and of_mask is mask:
        return cast(Tensor, known)
    if mask is None:
        bias = bias_1HSK.contiguous()
    elif mask.dtype == torch.bool:
        bias = torch.where(mask, bias_1HSK, torch.finfo(bias_1HSK.dtype).min)
    else:
        bias = bias_1HSK + mask
    if bias is not bias_1HSK:  # a value that is its own key would never be freed
        _known[bias_1HSK] = (mask, bias)
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


@contextmanager
def compiled(modules: Iterable[nn.Module | None], *, enabled: bool) -> Iterator[None]:
    """Inside the block, the transformer layers of frozen modules run through `torch.compile`.

    An option: whether it pays is measured (`benchmarks/compiled.py`), not assumed. Layers are compiled one by one and
    for any sizes, so that prompts of other lengths compile nothing anew. Values differ from uncompiled ones by
    roundings.

    Args:
        modules: vision encoders and language models; None among them is skipped.
        enabled: False changes nothing.

    Raises:
        OptionsError: where torch cannot compile.
    """
    chosen = [layer for module in modules if module is not None for layer in layers(module)] if enabled else []
    if chosen:
        _require_compiler(next(chosen[0].parameters()).device)
    for layer in chosen:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in chosen:
            layer._compiled_call_impl = None  # what nn.Module.compile sets; torch offers no way back


def _require_compiler(device: torch.device) -> None:
    """Compile one addition; raise an OptionsError with torch's reason where that fails."""
    try:
        torch.compile(lambda values: values + 1)(torch.zeros(1, device=device))
    except Exception as error:  # torch raises errors of many kinds here, all with their reason
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise OptionsError(
            f"compile_frozen=True, and torch cannot compile on this machine: {reason}. It needs a C++ compiler (g++) "
            "for CPUs, Triton for GPUs. Install one, or leave compile_frozen out."
        ) from error
