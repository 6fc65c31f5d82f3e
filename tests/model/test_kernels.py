"""Fused kernels, shared tensors and layers computed again give what the formulas give."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from crema_core.api.build import build
from crema_core.model import kernels
from crema_core.model.kernels import activation_checkpointing, fuse_activations, layers, share_position_bias
from crema_core.model.prompt import Prompt
from tests.support.modalities import four_modalities

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


def padded_prompts() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    return torch.randn(2, 7, 16, requires_grad=True), mask


def outputs(model: T5ForConditionalGeneration, embeds: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    output = model(inputs_embeds=embeds, attention_mask=mask, labels=torch.tensor([[3, 4, 1], [5, 1, -100]]))
    return output.logits, *torch.autograd.grad(output.loss, [embeds, *trained])


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_layers_that_share_the_position_bias_give_the_same_values_and_gradients(padded: bool, frozen: bool) -> None:
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(**CONFIG)).eval().requires_grad_(not frozen)
    embeds, mask = padded_prompts()
    mask = mask if padded else torch.ones_like(mask)
    alone = outputs(model, embeds, mask)
    assert share_position_bias(model)
    shared = outputs(model, embeds, mask)
    if frozen:
        assert all(map(torch.equal, shared, alone))
    else:  # the gradients of the position bias are added up in another order
        torch.testing.assert_close(shared, alone, atol=1e-7, rtol=1e-5)
    generated = {"inputs_embeds": embeds.detach(), "attention_mask": mask, "max_new_tokens": 5, "num_beams": 2}
    answers = model.generate(**generated)
    model.set_attn_implementation("sdpa")
    assert torch.equal(answers, model.generate(**generated))


def test_layers_keep_one_tensor_of_position_bias_and_mask_for_the_backward_pass() -> None:
    model = T5ForConditionalGeneration(T5Config(**CONFIG | {"num_layers": 4})).eval().requires_grad_(False)
    embeds, mask = padded_prompts()

    def biases() -> int:
        found = set()

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape == (2, 2, 7, 7):
                found.add(tensor.data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            held = model(inputs_embeds=embeds, attention_mask=mask, decoder_input_ids=torch.tensor([[0], [0]])).logits
        assert held.requires_grad
        return len(found)

    assert biases() == 4
    share_position_bias(model)
    assert biases() == 1


@pytest.mark.parametrize("asked", [None, True, False])
@pytest.mark.parametrize("own", [True, False])
def test_what_is_causal_is_what_transformers_takes_for_it(own: bool, asked: bool | None) -> None:
    torch.manual_seed(0)
    module = torch.nn.Identity()
    module.is_causal = own
    query, key, value = torch.randn(3, 2, 2, 5, 4)
    given = {"position_bias": torch.randn(1, 5, 5, 2).permute(0, 3, 1, 2), "scaling": 1.0, "is_causal": asked}
    found, _ = kernels._attention(module, query, key, value, None, **given)
    expected, _ = sdpa_attention_forward(module, query, key, value, None, **given)
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_no_position_bias_outlives_its_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_known", known := WeakTensorKeyDictionary())  # without what other tests still hold
    model = T5ForConditionalGeneration(T5Config(**CONFIG)).eval()
    share_position_bias(model)
    embeds, mask = padded_prompts()
    for one in (mask, torch.ones_like(mask)):
        outputs(model, embeds, one)
    gc.collect()
    assert not known


def test_only_encoder_decoder_models_with_fused_attention_share_a_position_bias() -> None:
    eager = T5ForConditionalGeneration(T5Config(**CONFIG, attn_implementation="eager"))
    decoder = OPTForCausalLM(OPTConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                       ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=16))  # fmt: skip
    assert not share_position_bias(eager)
    assert not share_position_bias(decoder)


@pytest.mark.parametrize("folder", ["t5_folder", "opt_folder"])
def test_recomputed_layers_keep_less_and_give_the_same_gradient(folder: str, request: pytest.FixtureRequest) -> None:
    place: Path = request.getfixturevalue(folder)
    language = build(four_modalities(), backbone=place).language
    start_BSL = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))
    mask_BS = torch.ones(2, 30, dtype=torch.bool)

    def run(*, enabled: bool) -> tuple[float, Tensor, int]:
        embeds_BSL = nn.Parameter(start_BSL)
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with activation_checkpointing(language.model, enabled=enabled):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = language.loss(Prompt(embeds_BSL, mask_BS), ["red", "blue"])
            num_bytes = sum(kept.values())
            loss.backward()
        assert embeds_BSL.grad is not None
        return float(loss.detach()), embeds_BSL.grad, num_bytes

    loss, gradient, num_bytes = run(enabled=False)
    again, same, fewer = run(enabled=True)
    assert loss == again
    assert torch.equal(gradient, same)
    assert fewer < num_bytes * 0.7
    assert all("forward" not in vars(layer) for layer in layers(language.model))
    assert len(layers(language.model)) >= 2
