"""Every projector against the released code, on its own tensors: outputs and all gradients."""

from __future__ import annotations

import pytest
import torch

from crema_merv.released import describe_projector, projector_state
from tests.support.merv import ENCODERS, KINDS, below, golden_projector, load
from tests.support.numeric import assert_close_to_scale, largest

ABOUT, TENSORS = load("projectors")


def test_every_golden_case_is_tested() -> None:
    assert set(KINDS) == set(ABOUT["cases"])
    assert all(set(case) == set(ENCODERS) for case in ABOUT["cases"].values())


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("case", KINDS)
def test_tokens_and_gradients_are_the_released_ones(case: str, encoder: str) -> None:
    projector = golden_projector(ABOUT, TENSORS, case, encoder).double()
    golden = below(TENSORS, f"{case}/{encoder}/")
    features = golden["in"].double().requires_grad_()
    tokens = projector(features, torch.ones(features.shape[:2], dtype=torch.bool)).values
    assert_close_to_scale(tokens.flatten(1, 2), golden["out"])
    (tokens.flatten(1, 2) * golden["loss_weights"]).sum().backward()
    assert features.grad is not None
    assert_close_to_scale(features.grad, golden["grad_in"])
    expected = projector_state(below(golden, "param_grad/"))
    found = {name: parameter.grad for name, parameter in projector.named_parameters()}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        assert gradient is not None
        assert_close_to_scale(gradient, expected[name], scale=largest(*expected.values()), name=name)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("case", KINDS)
def test_weights_tell_what_projector_they_belong_to(case: str, encoder: str) -> None:
    projector = golden_projector(ABOUT, TENSORS, case, encoder)
    sizes = ABOUT["cases"][case][encoder]
    told = describe_projector(below(TENSORS, f"{case}/{encoder}/param/"))
    expected = "average" if projector.kind == "average_3d" else projector.kind
    assert (told.kind, told.map_kind) == (expected, projector.map_kind)
    assert (told.feature_dim, told.width) == (sizes["width"], ABOUT["llm_width"])
    assert told.num_tokens == (4 if expected == "attentive" else None)
    assert told.num_blocks == (1 if expected == "conv" else None)


@pytest.mark.parametrize("case", KINDS)
def test_as_many_weights_as_released(case: str) -> None:
    for encoder in ENCODERS:
        projector = golden_projector(ABOUT, TENSORS, case, encoder)
        count = sum(parameter.numel() for parameter in projector.parameters())
        assert count == ABOUT["cases"][case][encoder]["params"]
