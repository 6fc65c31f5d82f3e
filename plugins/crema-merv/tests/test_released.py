"""Weights in the released layout go into a model of the same parts, and into no other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.errors import CheckpointError
from crema_merv.merv import Merv
from crema_merv.mixers import CrossAttentionMixer
from crema_merv.released import (
    ReleasedParts,
    describe_mixer,
    describe_projector,
    load_released,
    mixer_state,
    projector_state,
)
from crema_merv.released_mixer import ReleasedMixer
from tests.support.merv import ENCODERS, KINDS, below, golden_merv, load, released_fusion, released_projectors
from tests.support.numeric import assert_close_to_scale

ABOUT, TENSORS = load("projectors")
_, MIXERS = load("fusion")
MIXER = {
    "cross_attention_avg_lq": "cross_attention",
    "cross_attention_avg_lq_equal_widths": "cross_attention",
    "concat_channel": "channel",
    "concat_channel_ln": "channel_norm",
    "scalar": "scalar",
}


def parts_of(case: str, mixer: str | None) -> ReleasedParts:
    projectors = tuple(below(released_projectors(TENSORS, case), f"{index}.") for index in range(4))
    return ReleasedParts(projectors, {} if mixer is None else released_fusion(MIXERS, mixer), {})


def features_of(case: str) -> list[Tensor]:
    return [TENSORS[f"{case}/{encoder}/in"].double() for encoder in ENCODERS]


@pytest.mark.parametrize("case", KINDS)
def test_a_whole_checkpoint_gives_the_released_tokens_mixed_by_the_released_weights(case: str) -> None:
    merv = golden_merv(ABOUT, case)
    load_released(merv, parts_of(case, "cross_attention_avg_lq"))
    mixed = merv.double()(features_of(case))
    outs = torch.stack([TENSORS[f"{case}/{encoder}/out"] for encoder in ENCODERS], dim=1)
    own = released_fusion(MIXERS, "cross_attention_avg_lq")
    attention = torch.nn.MultiheadAttention(12, 1, batch_first=True, kdim=16, vdim=16)
    attention.load_state_dict({key.removeprefix("attention."): value for key, value in own.items() if key != "Q"})
    keys = outs.mean(2)
    _, weights = attention(own["Q"].expand(2, 1, -1), keys, keys)
    assert mixed.weights is not None
    assert_close_to_scale(mixed.weights, weights[:, 0])
    expected = torch.einsum("be,betl->btl", weights[:, 0], outs)
    assert_close_to_scale(mixed.values.flatten(1, 2), expected)


@pytest.mark.parametrize("mixer", MIXER)
def test_every_mixer_is_told_from_its_weights_and_loaded(mixer: str) -> None:
    parts = parts_of("avg2d_linear", mixer)
    kind = describe_mixer(parts.fusion)
    assert kind == MIXER[mixer]
    merv = golden_merv(ABOUT, "avg2d_linear", mixer=kind)
    before = {key: value.clone() for key, value in merv.state_dict().items()}
    load_released(merv, parts)
    assert all(not torch.equal(value, before[key]) for key, value in merv.state_dict().items())


def test_concatenation_has_no_weights() -> None:
    merv = golden_merv(ABOUT, "avg2d_linear", mixer="concat")
    parts = parts_of("avg2d_linear", None)
    assert describe_mixer(parts.fusion) is None
    load_released(merv, parts)
    outs = [TENSORS[f"avg2d_linear/{encoder}/out"] for encoder in ENCODERS]
    mixed = merv.double()(features_of("avg2d_linear"))
    assert_close_to_scale(mixed.values.flatten(1, 2), torch.cat(outs, dim=1))


def test_released_weights_can_be_kept_for_further_training() -> None:
    collapsed = golden_merv(ABOUT, "avg2d_linear")
    factors = golden_merv(ABOUT, "avg2d_linear")
    factors.mixer = ReleasedMixer(4, width=16, inner_width=12)
    parts = parts_of("avg2d_linear", "cross_attention_avg_lq")
    load_released(collapsed, parts)
    load_released(factors, parts)
    features = features_of("avg2d_linear")
    # The collapsed vector was rounded to float32 once.
    own, expected = factors.double()(features).values, collapsed.double()(features).values
    assert_close_to_scale(own, expected.float())
    assert set(dict(factors.mixer.named_parameters())) == {
        "query", "query_map.weight", "query_map.bias", "key_map.weight",
    }  # fmt: skip


def test_positional_vectors_become_one_score_per_encoder() -> None:
    merv = golden_merv(ABOUT, "avg2d_linear")
    merv.mixer = CrossAttentionMixer(4, width=16, positional=True)
    load_released(merv, parts_of("avg2d_linear", "cross_attention_avg_lq_positional"))
    assert merv.mixer.prior is not None
    assert merv.mixer.prior.shape == (4,)
    with pytest.raises(CheckpointError, match=r"unknown: mixer\.prior"):
        load_released(golden_merv(ABOUT, "avg2d_linear"), parts_of("avg2d_linear", "cross_attention_avg_lq_positional"))


def test_weights_in_half_precision_are_collapsed_in_full() -> None:
    fusion = {key: value.bfloat16() for key, value in released_fusion(MIXERS, "cross_attention_avg_lq").items()}
    exact = mixer_state({key: value.double() for key, value in fusion.items()})["query"]
    assert_close_to_scale(mixer_state(fusion)["query"], exact, ulps=8)


def test_per_token_projectors_are_known_by_their_shorter_names() -> None:
    linear = {"projector.weight": torch.zeros(6, 4), "projector.bias": torch.zeros(6)}
    assert describe_projector(linear)[:4] == ("full", "linear", 4, 6)
    assert set(projector_state(linear)) == {"map.weight", "map.bias"}
    mlp = {f"projector.{index}.{end}": torch.zeros(6, 6) for index in (0, 2) for end in ("weight", "bias")}
    assert describe_projector(mlp)[:2] == ("full", "gelu_mlp")


def test_a_model_of_other_sizes_is_refused_whole() -> None:
    merv = golden_merv(ABOUT, "avg2d_linear", mixer="scalar")
    before = {key: value.clone() for key, value in merv.state_dict().items()}
    parts = parts_of("avg2d_linear", "scalar")
    swapped = parts._replace(projectors=(parts.projectors[1], parts.projectors[0], *parts.projectors[2:]))
    with pytest.raises(CheckpointError) as caught:
        load_released(merv, swapped)
    assert str(caught.value) == (
        "The released checkpoint does not fit this model, 2 weights differ:\n"
        "  shape: projectors.0.map.weight is (16, 24), the model's is (16, 16)\n"
        "  shape: projectors.1.map.weight is (16, 16), the model's is (16, 24)\n"
        "It has 4 projectors (average + linear 24 -> 16, average + linear 16 -> 16, average + linear 8 -> 16, "
        "average + linear 32 -> 16), and the mixer scalar. Build the model with its encoders, in its order, its "
        "projector, map and mixer. Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in merv.state_dict().items())


@pytest.mark.parametrize(("options", "difference"), [
    ({"mixer": "average"}, "unknown: mixer.query"),
    ({"mixer": "channel"}, "missing: mixer.map.weight"),
    ({"map_kind": "gelu_mlp"}, "missing: projectors.0.map.0.weight"),
    ({"projector": "attentive", "num_heads": 8}, "missing: projectors.0.resampler.queries"),
])  # fmt: skip
def test_other_parts_are_named(options: dict[str, Any], difference: str) -> None:
    merv: Merv = golden_merv(ABOUT, "avg2d_linear", **options)
    with pytest.raises(CheckpointError) as caught:
        load_released(merv, parts_of("avg2d_linear", "cross_attention_avg_lq"))
    assert f"\n  {difference}\n" in str(caught.value)


def test_projector_weights_of_unknown_names_are_refused() -> None:
    with pytest.raises(CheckpointError) as caught:
        describe_projector({"projector.projector.weight": torch.zeros(2, 2), "perceiver.latents": torch.zeros(1)})
    assert str(caught.value) == (
        "The checkpoint has projector weights of unknown names: perceiver.latents. Accepted are those of the released "
        "average, attentive, conv, 3dconv and per-token projectors. Pass a checkpoint of the released code. Nothing "
        "was changed."
    )


def test_a_map_of_four_layers_is_refused() -> None:
    deep = {f"projector.projector.{index}.weight": torch.zeros(2, 2) for index in (0, 2, 4, 6)}
    with pytest.raises(CheckpointError) as caught:
        describe_projector(deep)
    assert str(caught.value) == (
        "A projector of the checkpoint has the weights projector.projector.0.weight, projector.projector.2.weight, "
        "projector.projector.4.weight, projector.projector.6.weight. Accepted are a map of 1, 2 or 3 linear layers and "
        "what a released projector has before it. Pass a checkpoint of the released code. Nothing was changed."
    )


def test_half_a_mixer_is_refused() -> None:
    fusion = released_fusion(MIXERS, "cross_attention_avg_lq")
    del fusion["attention.k_proj_weight"]
    with pytest.raises(CheckpointError) as caught:
        mixer_state(fusion)
    assert str(caught.value) == (
        "The mixer of the checkpoint has the weights Q, attention.in_proj_bias, attention.out_proj.bias, "
        "attention.out_proj.weight, attention.q_proj_weight, attention.v_proj_weight. A released one has Q, "
        "attention.in_proj_bias and either attention.in_proj_weight or attention.q_proj_weight and k_proj_weight. Pass "
        "a complete checkpoint. Nothing was changed."
    )
