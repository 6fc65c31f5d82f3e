"""Kernels for bf16 on a CPU: which attention is faster there, and a root-mean-square norm that reads its input once.

CPUs with matrix units (Intel's AMX) multiply bf16 matrices several times faster than float32 ones. torch's fused
attention does not use them in its backward pass, two matrix products and a softmax do: measured on such a CPU, forward
and backward, a Q-Former's self-attention takes 2.7 ms instead of 19, a T5 layer's 41 instead of 73. Everywhere else the
fused one is left alone: a CPU without such units is faster with it in nearly all shapes (`python -m benchmarks.kernels`
measures both), and on GPUs, in float32 and where no gradients are kept nothing was found against it.

T5's norm converts its input to float32, squares and averages it, each a pass over memory whose result the backward
pass keeps. With its weight frozen, one factor for each position is all that has to be kept.

Shape letters: B samples, H heads, Q positions that attend, K positions attended to, D width of a head, X width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from crema_core.model.precision import has_bf16_units

BY_DTYPE = "sdpa_by_dtype"
"""What transformers knows the attention by."""


def choose_attention(model: PreTrainedModel) -> bool:
    """Let a model that attends with torch's fused kernel use what is faster for its dtype and device, in place.

    Returns:
        whether that changed anything: only so on a CPU with matrix units for bf16.
    """
    if not has_bf16_units() or model.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(BY_DTYPE, attention)
    AttentionMaskInterface.register(BY_DTYPE, sdpa_mask)
    model.set_attn_implementation(BY_DTYPE)
    return True


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **arguments: Any
) -> tuple[Tensor, None]:
    """Attend as transformers' `sdpa_attention_forward` does, by the kernel that is faster.

    Args:
        module: the attention layer; `is_causal` says of what kind it is.
        query: `(B, H, Q, D)`.
        key: `(B, H, K, D)`, or fewer heads.
        value: likewise.
        attention_mask: bool, True where it may attend, or added to the scores; None: everywhere, or causally.
        **arguments: as transformers gives them.

    Returns:
        `(B, Q, H, D)`, and None for weights.
    """
    if not _products_are_faster(module, query, key, attention_mask, arguments):
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
        return found
    scaling = arguments.get("scaling")
    scores_BHQK = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    bias = arguments.get("position_bias")
    if bias is not None:
        scores_BHQK = scores_BHQK + bias
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores_BHQK = scores_BHQK.masked_fill(~attention_mask, torch.finfo(scores_BHQK.dtype).min)
    elif attention_mask is not None:
        scores_BHQK = scores_BHQK + attention_mask
    weights_BHQK = scores_BHQK.softmax(-1).to(value.dtype)
    if arguments.get("dropout"):
        weights_BHQK = nn.functional.dropout(weights_BHQK, arguments["dropout"])
    return (weights_BHQK @ value).transpose(1, 2).contiguous(), None


def _products_are_faster(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, arguments: dict[str, Any]
) -> bool:
    asked = arguments.get("is_causal")
    is_causal = mask is None and query.shape[2] > 1 and (getattr(module, "is_causal", True) if asked is None else asked)
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and query.requires_grad | key.requires_grad
        and not is_causal
        and query.shape[1] == key.shape[1]
        and has_bf16_units()
    )


def fuse_norms(model: nn.Module) -> int:
    """Replace every T5 norm in bf16 by one that reads its input once, in place.

    Args:
        model: from transformers.

    Returns:
        how many were replaced.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child).__qualname__ == "T5LayerNorm"
        and type(child).__module__.startswith("transformers.")
        and child.get_parameter("weight").dtype == torch.bfloat16
    ]
    for parent, name, child in found:
        setattr(parent, name, OnePassNorm(child))
    return len(found)


class OnePassNorm(nn.Module):
    """A T5 norm that, frozen and on a CPU, keeps its input and one factor for each position.

    Args:
        norm: whose weight and epsilon it takes.

    Attributes:
        weight: `(X,)`.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = norm.get_parameter("weight"), float(norm.variance_epsilon)  # type: ignore[arg-type]
        self._formula = type(norm).forward

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Divide `(..., X)` by the root of its mean square and multiply by the weight."""
        if hidden_states.device.type != "cpu" or self.weight.requires_grad:
            plain: Tensor = self._formula(self, hidden_states)
            return plain
        return cast(Tensor, _OnePass.apply(hidden_states, self.weight, self.variance_epsilon))  # type: ignore[no-untyped-call]


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, hidden: Tensor, weight_X: Tensor, epsilon: float) -> Tensor:
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        factor: Tensor = length.pow_(2).div_(hidden.shape[-1]).add_(epsilon).rsqrt_()
        context.save_for_backward(hidden, weight_X, factor)
        return (hidden * factor).to(weight_X.dtype).mul_(weight_X)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        hidden, weight_X, factor = context.saved_tensors
        weighted = gradients[0] * weight_X
        along = (weighted * hidden).sum(-1, keepdim=True, dtype=torch.float32)
        share = along * factor.pow(3) / hidden.shape[-1]
        return torch.addcmul(weighted * factor, hidden.float(), share, value=-1).to(hidden.dtype), None, None
