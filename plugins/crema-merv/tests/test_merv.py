"""Projectors, alignment and mixer together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from crema_core.errors import OptionsError
from crema_core.fusion import fusion_class
from crema_core.fusion.base import FusionSizes
from crema_core.fusion.strategies import SupportingCrossAttentionFusion, UngatedFusion
from crema_core.modality import FeaturePart
from crema_merv.layout import pack, unpack
from crema_merv.merv import Merv
from tests.support.fusions import make_fusion

LAYOUT = (
    FeaturePart("pictures", steps=4, rows=3, columns=5, width=8),
    FeaturePart("clips", steps=2, rows=2, columns=2, width=4),
    FeaturePart("word", steps=1, rows=1, columns=1, width=6),
)
MIXERS = ("cross_attention", "scalar", "average", "channel", "channel_norm", "concat")
small = st.integers(1, 4)
layouts = st.lists(st.tuples(small, small, small, small), min_size=1, max_size=4)


def features_of(layout: tuple[FeaturePart, ...], samples: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(samples, *encoder.shape) for encoder in layout]


@settings(max_examples=30, deadline=None)
@given(sizes=layouts, kind=st.sampled_from(MIXERS), projector=st.sampled_from(("average", "average_3d", "conv_3d")))
def test_any_encoders_go_together(sizes: list[tuple[int, ...]], kind: str, projector: str) -> None:
    layout = tuple(FeaturePart(f"e{index}", *own) for index, own in enumerate(sizes))
    merv = Merv(layout, width=8, projector=projector, token_grid=(2, 3), num_steps=3, mixer=kind)
    mixed = merv(features_of(layout))
    steps = 3 * (len(layout) if kind == "concat" else 1)
    assert mixed.values.shape == (2, steps, 6, 8)
    assert mixed.mask.all()
    assert mixed.values.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(sizes=layouts, samples=st.integers(1, 3))
def test_features_come_out_of_the_flat_tensor_as_they_went_in(sizes: list[tuple[int, ...]], samples: int) -> None:
    layout = tuple(FeaturePart(f"e{index}", *own) for index, own in enumerate(sizes))
    features = features_of(layout, samples)
    packed = pack(features)
    assert packed.shape == (samples, 1, 1, sum(encoder.numel for encoder in layout))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(unpack(packed, layout), features, strict=True))


@pytest.mark.parametrize("kind", MIXERS)
def test_a_sample_is_mixed_the_same_beside_longer_ones_and_others_with_more_encoders(kind: str) -> None:
    torch.manual_seed(0)
    layout = LAYOUT[:2]
    merv = Merv(layout, width=8, token_grid=(2, 2), mixer=kind)
    whole = features_of(layout)
    masks = [torch.tensor([[True, True, False, False], [True] * 4]), torch.tensor([[False, False], [True, True]])]
    together = merv([values + 0 for values in whole], masks)
    alone = merv([whole[0][:1, :2], whole[1][:1]], [masks[0][:1, :2], masks[1][:1]])
    real = [together.mask[0], alone.mask[0]]
    assert [int(mask.sum()) for mask in real] == [2, 2]
    torch.testing.assert_close(together.values[0][real[0]], alone.values[0][real[1]])
    if together.weights is not None:
        assert together.weights[0].tolist() == [1, 0]


def test_an_encoder_taken_away_leaves_the_mix_of_the_others() -> None:
    torch.manual_seed(0)
    layout = LAYOUT[:2]
    merv = Merv(layout, width=8, token_grid=(2, 2))
    features = features_of(layout)
    mixed = merv(features, None, torch.tensor([[True, False], [True, True]]))
    tokens = merv.projectors[0](features[0], torch.ones(2, 4, dtype=torch.bool)).values
    torch.testing.assert_close(mixed.values[0], tokens[0])
    assert not torch.allclose(mixed.values[1], tokens[1])


def test_one_token_of_a_class_stands_beside_grids() -> None:
    merv = Merv(LAYOUT[1:], width=8, projector="full", mixer="average")
    assert merv.num_tokens == 4
    features = features_of(LAYOUT[1:])
    mixed = merv(features)
    ones = torch.ones(2, 2, dtype=torch.bool)
    clips, word = (
        projector(values, ones[:, : values.shape[1]]).values
        for projector, values in zip(merv.projectors, features, strict=True)
    )
    torch.testing.assert_close(mixed.values, (clips + word) / 2)


def test_gradients_reach_every_weight() -> None:
    for kind in ("cross_attention", "released"):
        torch.manual_seed(0)
        merv = Merv(LAYOUT[:2], width=8, projector="attentive", token_grid=(2, 2), num_heads=2, mixer=kind)
        mixed = merv(features_of(LAYOUT[:2]))
        F.mse_loss(mixed.values, torch.randn_like(mixed.values)).backward()
        assert not [name for name, weight in merv.named_parameters() if weight.grad is None]


def test_encoders_with_other_numbers_of_tokens_are_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        Merv(LAYOUT, width=8, projector="full")
    assert str(caught.value) == (
        "The encoders give different numbers of tokens a step: pictures 15, clips 4, word 1. To be mixed, all give the "
        "same, or one. Use a projector that resamples, such as 'average', instead of 'full'."
    )


def test_no_encoder_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        Merv([], width=8)
    assert str(caught.value) == (
        "No encoder was given to mix. One or more are. Name encoders of the modality that sees."
    )


@pytest.mark.parametrize(
    "option", [{"num_steps": 0}, {"token_grid": (0, 8)}, {"token_grid": (8, 0)}, {"num_blocks": 0}, {"num_heads": 0}]
)
def test_counts_below_one_are_refused(option: dict[str, object]) -> None:
    with pytest.raises(OptionsError, match="greater than or equal to 1"):
        fusion_class("merv").plan(option)


def test_the_options_of_the_supporting_modalities_are_all_handed_on() -> None:
    supporting = {"name": "supporting_cross_attention", "num_heads": 2}
    fusion = make_fusion("merv", ["one"], FusionSizes(8, 1), options={"supporting": supporting})
    assert isinstance(fusion, SupportingCrossAttentionFusion)
    assert fusion.num_heads == 2
    added = make_fusion(
        "merv", ["one"], FusionSizes(8, 1), options={"supporting": {"append": False, "name": "ungated"}}
    )
    assert isinstance(added, UngatedFusion)
    assert not added.append
    turned = {"name": "ungated", "layout": "released", "append": True}
    assert make_fusion("merv", ["one"], FusionSizes(8, 1), options={"supporting": turned}).layout == "released"
