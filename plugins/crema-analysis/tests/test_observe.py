"""Watching changes nothing, and what is seen is what the model computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crema_analysis.observe import watched_attention
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import FusionSizes, FusionWatch
from crema_core.model.qformer import QFormer
from crema_core.tokens import ModalityFeatures
from tests.support.fusions import make_fusion


def qformer(model: CremaModel) -> QFormer:
    assert model.backbone.qformer is not None
    return model.backbone.qformer


def inputs(model: CremaModel, count: int = 2) -> dict[str, ModalityFeatures]:
    generator = torch.Generator().manual_seed(3)
    sources = [
        {
            "main": torch.randn(2, 3, 16, 16, generator=generator),
            "wave": torch.randn(3, 3, 10, generator=generator),
            "points": torch.randn(2 + 3 * row, 6, generator=generator),
        }
        for row in range(count)
    ]
    return model.encode(prepare_batch(model, sources))


@pytest.mark.parametrize("name", ["main", "points"])
def test_weights_are_those_of_spelled_out_attention(model: CremaModel, name: str) -> None:
    features = inputs(model)[name]
    with torch.no_grad(), watched_attention(qformer(model)) as seen:
        tokens = model.modality_tokens(name, features)
    inner, wanted = qformer(model).model, []
    modules = [own for path, own in inner.named_modules() if path.endswith(".crossattention.attention")]
    hooks = [own.register_forward_hook(lambda module, args, output: wanted.append(output[1])) for own in modules]
    inner.config._attn_implementation = "eager"
    with torch.no_grad():
        spelled_out = model.modality_tokens(name, features)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(tokens.values, spelled_out.values, atol=1e-5, rtol=1e-5)
    assert len(seen) == len(wanted) == 1
    torch.testing.assert_close(seen[0], wanted[0].mean(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(seen[0].shape[:2]))
    if name == "points":  # the first sample has two points, the second five
        assert (seen[0][0, :, 2:] == 0).all()
        assert (seen[0][1] > 0).all()


def test_outputs_are_bit_identical_and_hooks_are_gone_afterwards(model: CremaModel) -> None:
    features = inputs(model)
    questions = ["what is the color ?"] * 2
    plain = model.tokens(features, questions)
    prompt = model.prompt(plain, questions)
    watch = FusionWatch()
    state = dict(vars(model.fusion))
    with watched_attention(qformer(model)) as seen:
        watched = model.tokens(features, questions)
        again = model.prompt(watched, questions, watch=watch)
    assert all(torch.equal(plain[name].values, watched[name].values) for name in plain)
    assert torch.equal(prompt.embeds, again.embeds)
    assert watch.gate is not None
    assert vars(model.fusion) == state
    assert len(seen) == 3
    gate = watch.gate
    model.loss(model.tokens(features, questions), questions, ["red", "blue"])
    assert len(seen) == 3
    assert watch.gate is gate
    assert not any(own._forward_pre_hooks or own._forward_hooks for own in model.modules())


def test_hooks_are_gone_after_an_error(model: CremaModel) -> None:
    with pytest.raises(KeyError), watched_attention(qformer(model)):
        raise KeyError
    assert not any(own._forward_pre_hooks or own._forward_hooks for own in model.modules())


def test_the_gate_is_the_sigmoid_of_the_sum_of_the_parts(model: CremaModel) -> None:
    tokens = model.tokens(inputs(model), ["?"] * 2)
    watch = FusionWatch()
    model.prompt(tokens, ["?"] * 2, watch=watch)
    assert set(watch.parts) == {"wave", "points"}
    assert {name: tuple(own.shape) for name, own in watch.parts.items()} == {"wave": (2, 2), "points": (2, 2)}
    # Points are static: on both frames they add the same.
    added: Tensor = model.fusion.blocks["points"](tokens["points"].values)  # (2, 1, Q, L)
    expected = added.norm(dim=-1).mean(-1).expand(-1, 2)
    torch.testing.assert_close(watch.parts["points"], expected.detach())
    from crema_core.fusion.base import ModalitySet

    modalities = ModalitySet(tokens, "main", 2, dict.fromkeys(model.names, ""), frozenset({"main", "other"}))
    fused, _ = model.fusion._sum(modalities, ["wave", "points"], modalities.grid())  # type: ignore[operator]
    assert watch.gate is not None
    torch.testing.assert_close(watch.gate, torch.sigmoid(fused).mean(-1).detach())


@pytest.mark.parametrize("name", ["concat", "cross_attention"])
def test_a_fusion_without_gate_or_sum_shows_none(model: CremaModel, name: str) -> None:
    fusion = make_fusion(name, ["other", "wave", "points"], FusionSizes(width=24, num_queries=5))
    watch = FusionWatch()
    model.prompt(model.tokens(inputs(model), ["?"] * 2), ["?"] * 2, fusion=fusion, watch=watch)
    assert watch.gate is None
    assert watch.parts == {}
