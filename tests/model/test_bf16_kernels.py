"""bf16 on a CPU: products or the fused attention by what is faster, a norm that keeps little; the numbers stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.t5.modeling_t5 import T5LayerNorm

from crema_core.api.build import build
from crema_core.model import bf16_kernels
from crema_core.model.bf16_kernels import BY_DTYPE, OnePassNorm, attention, fuse_norms
from tests.support.modalities import four_modalities
from tests.support.steps import train_a_little

UNIT = 2.0**-8
"""Relative rounding of bf16."""
SIZES = {"B": 2, "H": 3, "Q": 5, "K": 7, "D": 4}


@pytest.fixture
def with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has matrix units; this machine's own products give the same numbers more slowly."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})


@pytest.fixture
def products_alone(with_units: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("the fused kernel was chosen")

    monkeypatch.setattr(bf16_kernels, "sdpa_attention_forward", refuse)


class Layer(nn.Module):
    is_causal = False

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.num_key_value_groups = groups


def drawn(dtype: torch.dtype = torch.bfloat16, **sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    size = SIZES | sizes
    generator = torch.Generator().manual_seed(0)
    heads = {"Q": size["H"], "K": size.get("G", size["H"])}
    query, key, value = (
        torch.randn(size["B"], heads[own], size[own], size["D"], generator=generator).to(dtype).requires_grad_()
        for own in ("Q", "K", "K")
    )
    return query, key, value


MASKS: dict[str, Callable[[], dict[str, Any]]] = {
    "none": lambda: {"attention_mask": None},
    "where it may attend": lambda: {"attention_mask": torch.arange(7) < torch.tensor([4, 7])[:, None, None, None]},
    "added": lambda: {"attention_mask": torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(1)).bfloat16()},
    "scaled": lambda: {"attention_mask": None, "scaling": 1.0},
    "with a bias": lambda: {
        "attention_mask": torch.ones(2, 1, 5, 7, dtype=torch.bool).tril(4),
        "position_bias": torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(1)).bfloat16(),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", MASKS)
def test_products_give_the_values_and_gradients_of_the_fused_kernel(products_alone: None, kind: str) -> None:
    given, arguments = drawn(), MASKS[kind]()
    found, _ = attention(Layer(), *given, **arguments)
    exact = [own.detach().double().requires_grad_() for own in given]
    arguments = {
        name: own.double() if isinstance(own, Tensor) and own.is_floating_point() else own
        for name, own in arguments.items()
    }
    expected, _ = sdpa_attention_forward(Layer(), *exact, **arguments)
    assert found.shape == (2, 5, 3, 4)
    assert found.dtype == torch.bfloat16
    # Scores below 8 are rounded, so weights err by 8 units of themselves, and values are averages with these weights.
    close = {"atol": 16 * UNIT, "rtol": 16 * UNIT}
    torch.testing.assert_close(found.double(), expected, **close)
    along = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad(found, given, along.bfloat16())
    exact_gradients = torch.autograd.grad(expected, exact, along.double())
    for own, exact_gradient in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(own.double(), exact_gradient, atol=32 * UNIT, rtol=32 * UNIT)


OTHERS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]]] = {
    "float32": lambda: (Layer(), drawn(torch.float32)),
    "fewer heads of keys": lambda: (Layer(groups=2), drawn(H=4, G=2)),
    "causal": lambda: (nn.Module(), drawn(K=5)),  # a layer that says nothing is causal to transformers
}


@pytest.mark.parametrize("kind", OTHERS)
def test_whatever_else_is_left_to_the_fused_kernel(with_units: None, kind: str) -> None:
    layer, given = OTHERS[kind]()
    assert torch.equal(attention(layer, *given, None)[0], sdpa_attention_forward(layer, *given, None)[0])


def test_a_pass_without_gradients_and_a_cpu_without_units_keep_the_fused_kernel(
    products_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = drawn()
    with torch.no_grad(), pytest.raises(AssertionError, match="fused kernel was chosen"):
        attention(Layer(), *given, None)
    with pytest.raises(AssertionError, match="fused kernel was chosen"):
        attention(Layer(), *(own.detach() for own in given), None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})
    with pytest.raises(AssertionError, match="fused kernel was chosen"):
        attention(Layer(), *given, None)


def test_a_model_in_bf16_learns_through_products_what_it_learns_without(
    t5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses() -> tuple[list[float], str]:
        model = build(four_modalities(), backbone=t5_folder, precision="bf16")
        assert model.backbone.qformer is not None
        with torch.autocast("cpu", torch.bfloat16):
            return train_a_little(model, num_steps=4), model.backbone.qformer.model.config._attn_implementation

    plain, kind = losses()
    assert kind == "sdpa"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    asked = []
    choose = bf16_kernels._products_are_faster

    def count(*arguments: Any) -> bool:
        asked.append(choose(*arguments))
        return asked[-1]

    monkeypatch.setattr(bf16_kernels, "_products_are_faster", count)
    found, kind = losses()
    assert kind == BY_DTYPE
    assert sum(asked) > len(asked) / 2
    assert found == pytest.approx(plain, rel=0.02)


def norms() -> tuple[T5LayerNorm, OnePassNorm]:
    plain = T5LayerNorm(6).to(torch.bfloat16)
    with torch.no_grad():
        plain.weight.copy_(torch.linspace(0.5, 2, 6))
    plain.requires_grad_(False)
    return plain, OnePassNorm(copy.deepcopy(plain))


def test_a_norm_has_the_values_and_gradients_of_the_formula() -> None:
    plain, fused = norms()
    hidden = (3 * torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))).bfloat16().requires_grad_()
    along = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact = hidden.detach().double().requires_grad_()
    expected = exact * (exact.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * plain.weight.double()
    torch.testing.assert_close(fused(hidden).double(), expected, atol=0, rtol=2 * UNIT)  # two roundings
    torch.testing.assert_close(fused(hidden), plain(hidden), atol=0, rtol=2 * UNIT)
    (gradient,) = torch.autograd.grad(fused(hidden), hidden, along)
    (exact_gradient,) = torch.autograd.grad(expected, exact, along.double())
    torch.testing.assert_close(gradient.double(), exact_gradient, atol=4 * UNIT, rtol=4 * UNIT)


def test_a_norm_keeps_its_input_and_one_number_for_each_position() -> None:
    plain, fused = norms()
    hidden = torch.randn(4, 5, 6).bfloat16().requires_grad_()

    def kept(norm: nn.Module) -> int:
        found: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            alive = norm(hidden)
        assert alive.requires_grad
        return sum(found.values())

    assert kept(fused) == 4 * 5 * 6 * 2 + 4 * 5 * 4 + 6 * 2
    assert kept(plain) > 2 * kept(fused)


def test_a_norm_that_is_trained_has_a_gradient() -> None:
    plain, fused = norms()
    hidden = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    for norm in (plain, fused):
        norm.requires_grad_()
        norm(hidden).sum().backward()
    assert plain.weight.grad is not None
    assert fused.weight.grad is not None
    assert torch.equal(fused.weight.grad, plain.weight.grad)


def test_norms_in_bf16_alone_are_replaced_and_keep_their_names() -> None:
    config = T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    model = T5ForConditionalGeneration(config)
    assert fuse_norms(model) == 0
    names = list(model.state_dict())
    assert fuse_norms(model.bfloat16()) == 7  # 2 of the encoder's layer, 3 of the decoder's, 1 behind each
    assert list(model.state_dict()) == names
