"""Every strategy against its formula, and against the rule that absent modalities change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from crema_core.errors import OptionsError
from crema_core.fusion import fusion_class
from crema_core.fusion.base import Fusion, FusionSizes, ModalitySet
from crema_core.fusion.strategies import SelfGatedFusion
from crema_core.plugins import registry
from crema_core.tokens import ModalityTokens
from tests.support.fusions import make_fusion

WIDTH, QUERIES, STEPS = 8, 3, 2
PLANS = {name: fusion_class(name).plan({}) for name in registry.usable_names("fusion")}
STRATEGIES = sorted(name for name, plan in PLANS.items() if plan.major_connector is None and not plan.reads_features)
"""Those whose modalities all come as the language model's tokens; others have tests of their own."""
PREFIXES = {"main": "Frame {index}: ", "one": "One: ", "two": "Two: "}


def modalities(rows: dict[str, list[int]], num_samples: int, *, seed: int = 0) -> ModalitySet:
    generator = torch.Generator().manual_seed(seed)
    tokens = {
        name: ModalityTokens(
            torch.randn(len(own), STEPS, QUERIES, WIDTH, generator=generator),
            torch.ones(len(own), STEPS, dtype=torch.bool),
            torch.tensor(own),
        )
        for name, own in rows.items()
    }
    return ModalitySet(tokens, "main", num_samples, PREFIXES, frozenset(PREFIXES))


def fusion_of(name: str) -> Fusion:
    torch.manual_seed(0)
    return make_fusion(name, ["one", "two"], FusionSizes(WIDTH, QUERIES))


def test_self_gated_fusion_is_equation_3_on_concatenated_channels() -> None:
    fusion = fusion_of("self_gated")
    assert isinstance(fusion, SelfGatedFusion)
    batch = modalities({"main": [0, 1], "one": [0, 1], "two": [0, 1]}, 2)
    linear = nn.Linear(2 * WIDTH, WIDTH)
    with torch.no_grad():
        linear.weight.copy_(torch.cat([fusion.blocks["one"].weight, fusion.blocks["two"].weight], dim=1))
        linear.bias.copy_(fusion.bias)
    fused = linear(torch.cat([batch.tokens["one"].values, batch.tokens["two"].values], dim=-1))
    main, appended = fusion(batch)
    torch.testing.assert_close(appended.values, fused * torch.sigmoid(fused))
    assert torch.equal(main.values, batch.tokens["main"].values)
    assert main.prefix == appended.prefix == "Frame {index}: "


def test_the_additive_variant_adds_the_gated_tokens_to_the_major_ones() -> None:
    torch.manual_seed(0)
    fusion = make_fusion("self_gated", ["one"], FusionSizes(WIDTH, QUERIES), options={"append": False})
    batch = modalities({"main": [0], "one": [0]}, 1)
    (only,) = fusion(batch)
    fused = fusion.blocks["one"](batch.tokens["one"].values) + fusion.bias
    torch.testing.assert_close(only.values, batch.tokens["main"].values + fused * torch.sigmoid(fused))


def test_the_additive_variant_keeps_the_fused_tokens_of_a_sample_without_the_major_modality() -> None:
    torch.manual_seed(0)
    fusion = make_fusion("self_gated", ["one"], FusionSizes(WIDTH, QUERIES), options={"append": False})
    batch = modalities({"main": [0], "one": [0, 1]}, 2)
    (only,) = fusion(batch)
    (alone,) = fusion(modalities({"one": [0, 1]}, 2))
    assert only.mask.tolist() == [[True, True], [True, True]]
    fused = fusion.blocks["one"](batch.tokens["one"].values[1:]) + fusion.bias
    torch.testing.assert_close(only.values[1:], fused * torch.sigmoid(fused))
    assert (only.prefix, only.prefixes_first) == (alone.prefix, alone.prefixes_first)


def test_the_additive_variant_takes_supporting_modalities_with_more_steps_than_the_major_one() -> None:
    torch.manual_seed(0)
    fusion = make_fusion("self_gated", ["one"], FusionSizes(WIDTH, QUERIES), options={"append": False})
    batch = modalities({"main": [0], "one": [0, 1]}, 2)
    main = batch.tokens["main"]
    short = main._replace(values=main.values[:, :1], mask=main.mask[:, :1])
    (only,) = fusion(replace(batch, tokens={**batch.tokens, "main": short}))
    assert only.mask.tolist() == [[True, False], [True, True]]


def test_a_linear_map_over_channels_keeps_its_initial_spread() -> None:
    wide = make_fusion("ungated", [f"s{i}" for i in range(4)], FusionSizes(64, 1))
    bound = 1 / (64 * 4) ** 0.5
    weights = torch.cat([block.weight.detach().flatten() for block in wide.blocks.values()])
    assert weights.abs().max() <= bound
    assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_supporting_cross_attention_reads_the_supporting_modalities_a_sample_has_with_queries_of_the_major_one() -> (
    None
):
    torch.manual_seed(0)
    fusion = make_fusion(
        "supporting_cross_attention", ["one", "two"], FusionSizes(WIDTH, QUERIES), options={"num_heads": 2}
    )
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    batch = modalities({"main": [0, 1], "one": [0, 1], "two": [1]}, 2)
    queries = fusion.query_norm(fusion.queries + batch.tokens["main"].values)
    one = batch.tokens["one"].values + fusion.blocks["one"].vector
    two = batch.tokens["two"].values + fusion.blocks["two"].vector
    reference = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    reference.load_state_dict(fusion.attention.state_dict())
    _, fused = fusion(batch)
    for sample, keys in enumerate((one[0], torch.cat([one[1], two[0]], dim=1))):
        keys = fusion.key_norm(keys)
        expected, _ = reference(queries[sample], keys, keys)
        torch.testing.assert_close(fused.values[sample], expected)
    assert bool(fused.mask.all())


def test_supporting_cross_attention_asks_with_its_own_queries_where_the_major_modality_is_absent_or_shorter() -> None:
    torch.manual_seed(0)
    fusion = make_fusion("supporting_cross_attention", ["one"], FusionSizes(WIDTH, QUERIES), options={"num_heads": 2})
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    batch = modalities({"main": [0], "one": [0, 1]}, 2)
    major = batch.tokens["main"]
    major = major._replace(values=major.values[:, :1], mask=major.mask[:, :1])
    batch = replace(batch, tokens={**batch.tokens, "main": major}, per_frame=frozenset({"main", "one"}))
    fused = fusion(batch)[1]
    keys = fusion.key_norm(batch.aligned("one", batch.grid()) + fusion.blocks["one"].vector)
    asked = fusion.queries.expand(2, STEPS, -1, -1).clone()
    asked[0, 0] += batch.tokens["main"].values[0, 0]
    for sample in (0, 1):
        own = keys[sample]
        expected, _ = fusion.attention(fusion.query_norm(asked[sample]), own, own)
        torch.testing.assert_close(fused.values[sample, :1], expected[:1])
    assert fused.mask.tolist() == [[True, False], [True, True]]


def test_the_token_mixture_weighs_the_experts_of_the_modalities_a_sample_has() -> None:
    fusion = fusion_of("token_mixture")
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    batch = modalities({"main": [0, 1], "one": [0, 1], "two": [1]}, 2)
    one, two = batch.tokens["one"].values, batch.tokens["two"].values
    experts = fusion.blocks
    _, fused = fusion(batch)
    torch.testing.assert_close(fused.values[0], experts["one"].expert(one[0]))
    scores = torch.cat([experts[n].router(v.mean(1)) for n, v in (("one", one[1]), ("two", two[0]))], dim=1)
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    expected = weights[:, 0, None, None] * experts["one"].expert(one[1]) + weights[:, 1, None, None] * experts[
        "two"
    ].expert(two[0])
    torch.testing.assert_close(fused.values[1], expected)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_sample_is_fused_the_same_beside_samples_with_other_modalities(name: str) -> None:
    fusion = fusion_of(name)
    mixed = modalities({"main": [0, 1, 2], "one": [0, 2], "two": [2]}, 3)
    alone = ModalitySet(
        {
            key: ModalityTokens(own.values[:1], own.mask[:1], torch.tensor([0]))
            for key, own in mixed.tokens.items()
            if key != "two"
        },
        "main",
        1,
        PREFIXES,
        frozenset(PREFIXES),
    )
    together = [segment for segment in fusion(mixed) if bool(segment.mask[0].any())]
    for ours, theirs in zip(together, fusion(alone), strict=True):
        torch.testing.assert_close(ours.values[:1], theirs.values)
        assert ours.mask[0].tolist() == theirs.mask[0].tolist()


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"concat"}))
def test_a_sample_without_supporting_modalities_gets_no_fused_tokens_and_no_nan(name: str) -> None:
    segments = fusion_of(name)(modalities({"main": [0, 1], "one": [1]}, 2))
    assert [segment.mask[0].any().item() for segment in segments] == [True, False]
    assert all(bool(segment.values.isfinite().all()) for segment in segments)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_modality_without_weights_is_concatenated_as_in_zero_shot_use(name: str) -> None:
    fusion = make_fusion(name, ["one"], FusionSizes(WIDTH, QUERIES))
    batch = modalities({"main": [0], "one": [0], "two": [0]}, 1)
    last = fusion(batch)[-1]
    assert last.prefix == "Two: "
    assert torch.equal(last.values, batch.tokens["two"].values)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_parameter_belongs_to_one_modality_or_to_all(name: str) -> None:
    fusion = fusion_of(name)
    parts = [fusion.block_parameters(["one"]), fusion.block_parameters(["two"]), fusion.shared_parameters()]
    assert sorted(key for part in parts for key in part) == sorted(dict(fusion.named_parameters()))


def test_an_unknown_fusion_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("self-gated", [], FusionSizes(8, 1))
    assert str(caught.value) == (
        f"'self-gated' is not an installed fusion. Installed: {', '.join(registry.installed_names('fusion'))}. Did you "
        "mean 'self_gated'?"
    )


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("concat", [], FusionSizes(8, 1), options={"heads": 2})
    assert str(caught.value) == (
        "fusion: ConcatFusion has no option 'heads'. Accepted: layout. Correct the name, or leave it out."
    )
