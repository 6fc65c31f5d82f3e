"""Fused kernels give what the formulas give."""

from __future__ import annotations

import torch
from transformers import T5Config, T5ForConditionalGeneration

from crema_core.model.kernels import fuse_activations

CONFIG = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2,
          "num_heads": 2, "decoder_start_token_id": 0}  # fmt: skip


def test_a_gated_t5_gives_the_same_values_and_gradients_with_fused_activations() -> None:
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(**CONFIG, feed_forward_proj="gated-gelu")).eval()
    embeds = torch.randn(2, 7, 16, requires_grad=True)
    labels = torch.tensor([[3, 4, 1], [5, 1, -100]])

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        output = model(inputs_embeds=embeds, labels=labels)
        (gradient,) = torch.autograd.grad(output.loss, embeds)
        return output.logits.detach(), gradient

    logits, gradient = run()
    assert fuse_activations(model) == 4  # two encoder and two decoder layers
    fused_logits, fused_gradient = run()
    assert torch.allclose(fused_logits, logits, atol=1e-5)
    assert torch.allclose(fused_gradient, gradient, atol=1e-6)


def test_other_activations_stay() -> None:
    model = T5ForConditionalGeneration(T5Config(**CONFIG, feed_forward_proj="relu"))
    assert fuse_activations(model) == 0
