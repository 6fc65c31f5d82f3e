"""Table 8's linear and cross-attention: what is merged with the major modality's tokens, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from crema_core.errors import OptionsError
from crema_core.fusion.all_tokens import CrossAttentionFusion, LinearFusion
from crema_core.fusion.base import FusionSizes, FusionWatch, ModalitySet
from crema_core.fusion.connector import VisualLayout
from crema_core.tokens import ModalityTokens, Segment
from tests.support.fusions import make_fusion

WIDTH, QUERIES = 8, 4
PREFIXES = {"main": "Frame {index}: ", "one": "One: ", "two": "Two: "}
NAMES = tuple(PREFIXES)


def batch(samples: list[dict[str, int]], *, seed: int = 0) -> ModalitySet:
    """Every sample's modalities with their number of steps; a modality's tokens depend on its sample's number alone."""
    tokens = {}
    for place, name in enumerate(NAMES):
        rows = [row for row, own in enumerate(samples) if name in own]
        if not rows:
            continue
        longest = max(samples[row][name] for row in rows)
        values = torch.zeros(len(rows), longest, QUERIES, WIDTH)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for position, row in enumerate(rows):
            steps = samples[row][name]
            draws = torch.Generator().manual_seed(seed + 10 * place + 100 * steps)
            values[position, :steps] = torch.randn(steps, QUERIES, WIDTH, generator=draws)
            mask[position, :steps] = True
        tokens[name] = ModalityTokens(values, mask, torch.tensor(rows))
    return ModalitySet(tokens, "main", len(samples), PREFIXES, frozenset({"main", "one"}))


def fusion_of(name: str, supporting: tuple[str, ...] = ("one", "two"), **options: Any) -> Any:
    torch.manual_seed(0)
    fusion = make_fusion(name, supporting, FusionSizes(WIDTH, QUERIES), options=options)
    for own in fusion.parameters():
        nn.init.normal_(own, std=0.3)
    return fusion


def read(segments: list[Segment], row: int) -> list[tuple[str | None, Tensor]]:
    """What one sample's segments hold, in their order; those without a token of it are left out."""
    found = []
    for own in segments:
        mask = own.mask if own.mask.dim() == 3 else own.mask[:, :, None].expand(own.values.shape[:3])
        if bool(mask[row].any()):
            found.append((own.prefix, own.values[row][mask[row]]))
    return found


def assert_same(one: list[tuple[str | None, Tensor]], other: list[tuple[str | None, Tensor]], **bound: float) -> None:
    assert [prefix for prefix, _ in one] == [prefix for prefix, _ in other]
    for (_, first), (_, second) in zip(one, other, strict=True):
        torch.testing.assert_close(first, second, **bound)


def test_linear_is_one_map_over_the_concatenated_tokens_of_a_step() -> None:
    fusion = fusion_of("linear", num_tokens=5)
    modalities = batch([{"main": 3, "one": 3, "two": 1}])
    (merged,) = fusion(modalities)
    whole = nn.Linear(3 * QUERIES, 5)
    with torch.no_grad():
        weights = [fusion.major.weight, fusion.blocks["one"].weight, fusion.blocks["two"].weight]
        whole.weight.copy_(torch.cat(weights, dim=1))
        whole.bias.copy_(fusion.major.bias)
    main, one, two = (modalities.tokens[name].values for name in NAMES)
    joined = torch.cat([main, one, two.expand(-1, 3, -1, -1)], dim=2)  # (1, 3, 3 * Q, L)
    torch.testing.assert_close(merged.values, whole(joined.transpose(2, 3)).transpose(2, 3))
    assert (merged.prefix, merged.mask.tolist()) == ("Frame {index}: ", [[True] * 3])


@pytest.mark.parametrize(("queries", "tokens"), [(32, 48), (5, 8), (1, 2)])
def test_linear_leaves_half_as_many_tokens_again_as_one_modality_has(queries: int, tokens: int) -> None:
    fusion = make_fusion("linear", ["one"], FusionSizes(WIDTH, queries))
    assert isinstance(fusion, LinearFusion)
    assert tuple(fusion.major.weight.shape) == tuple(fusion.blocks["one"].weight.shape) == (tokens, queries)


def test_linear_reads_a_major_modality_of_another_number_of_tokens() -> None:
    fusion = make_fusion("linear", ["one"], FusionSizes(WIDTH, QUERIES, major_queries=7))
    assert tuple(fusion.major.weight.shape) == (6, 7)
    assert tuple(fusion.blocks["one"].weight.shape) == (6, QUERIES)


def test_linear_starts_as_one_map_over_all_tokens_would() -> None:
    fusion = make_fusion("linear", ["one", "two"], FusionSizes(WIDTH, 200, major_queries=300))
    bound = (300 + 2 * 200) ** -0.5
    for weight in (fusion.major.weight, fusion.blocks["one"].weight, fusion.blocks["two"].weight):
        assert 0.99 * bound < float(weight.detach().abs().max()) <= bound
    assert 0.9 * bound < float(fusion.major.bias.detach().abs().max()) <= bound


def test_a_modality_added_to_linear_at_zero_changes_nothing_beside_another() -> None:
    fusion = fusion_of("linear", ("one",))
    modalities = batch([{"main": 2, "one": 2, "two": 1}])
    without = replace(modalities, tokens={name: modalities.tokens[name] for name in ("main", "one")})
    before = read(fusion(without), 0)
    fusion.add_supporting("two", total=2, zero=True)
    assert_same(read(fusion(modalities), 0), before, rtol=0.0, atol=0.0)
    with torch.no_grad():
        fusion.blocks["two"].weight.fill_(0.1)
    assert not torch.allclose(read(fusion(modalities), 0)[0][1], before[0][1])


def test_the_first_modality_added_to_linear_at_zero_leaves_the_major_tokens_as_they_are() -> None:
    fusion = make_fusion("linear", [], FusionSizes(WIDTH, QUERIES))
    fusion.add_supporting("one", total=1, zero=True)
    modalities = batch([{"main": 2, "one": 2}])
    (merged,) = fusion(modalities)
    assert torch.equal(merged.values[:, :, :QUERIES], modalities.tokens["main"].values)
    assert not bool(merged.values[:, :, QUERIES:].any())


def test_linear_notes_what_each_supporting_modality_adds() -> None:
    fusion, watch = fusion_of("linear"), FusionWatch()
    modalities = replace(batch([{"main": 2, "one": 2}, {"main": 2}]), watch=watch)
    fusion(modalities)
    own = modalities.tokens["one"].values
    expected = (fusion.blocks["one"].weight @ own).norm(dim=-1).mean(-1).detach()
    assert watch.parts.keys() == {"one"}
    torch.testing.assert_close(watch.parts["one"], expected)


def test_cross_attention_lets_extra_prompts_read_all_tokens_of_all_steps() -> None:
    fusion = fusion_of("cross_attention", num_heads=2, num_prompts=3)
    samples = [{"main": 2, "one": 2, "two": 3}, {"main": 1, "two": 2}]
    modalities = batch(samples)
    main, extra = fusion(modalities)
    assert torch.equal(main.values, modalities.tokens["main"].values)
    assert tuple(extra.values.shape) == (2, 1, 3, WIDTH)
    embeddings = {"main": fusion.major.vector} | {name: fusion.blocks[name].vector for name in ("one", "two")}
    for row, sample in enumerate(samples):
        keys = []
        for name, steps in sample.items():
            tokens = modalities.tokens[name]
            own = tokens.values[tokens.rows.tolist().index(row)]
            keys.append((own[:steps] + embeddings[name]).flatten(0, 1))
        normed = fusion.key_norm(torch.cat(keys))
        expected, _ = fusion.attention(fusion.prompt_norm(fusion.prompts), normed, normed)
        torch.testing.assert_close(extra.values[row, 0], fusion.prompts + expected)


def test_cross_attention_leaves_padded_tokens_of_a_step_aside() -> None:
    fusion = fusion_of("cross_attention", num_heads=2)
    modalities = batch([{"main": 2, "one": 2}])
    own = modalities.tokens["one"]
    real = torch.tensor([True, True, True, False]).expand(1, 2, QUERIES)

    def extra(values: Tensor, token_mask: Tensor | None) -> Tensor:
        tokens = {**modalities.tokens, "one": own._replace(values=values, token_mask=token_mask)}
        segments: list[Segment] = fusion(replace(modalities, tokens=tokens))
        return segments[1].values

    torch.testing.assert_close(extra(own.values, real), extra(own.values * real[..., None], real))
    assert not torch.allclose(extra(own.values, real), extra(own.values, None))


def test_cross_attention_reads_of_a_models_own_tokens_what_its_language_model_reads_first() -> None:
    fusion = fusion_of("cross_attention", num_heads=2)
    modalities = batch([{"main": 2, "one": 2}])
    main = modalities.tokens["main"]
    deep = main._replace(values=torch.cat([main.values, torch.randn(1, 2, QUERIES, 2 * WIDTH)], dim=-1))
    wide, plain = (fusion(replace(modalities, tokens={**modalities.tokens, "main": own}))[1] for own in (deep, main))
    assert torch.equal(wide.values, plain.values)


MERGING: dict[str, dict[str, Any]] = {"linear": {}, "cross_attention": {"num_heads": 2}}
STEPS = st.integers(1, 3)
SAMPLES = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, STEPS)).filter(bool)


@settings(max_examples=25, deadline=None)
@given(samples=st.lists(SAMPLES, min_size=2, max_size=4))
@pytest.mark.parametrize("name", MERGING)
def test_a_sample_is_merged_as_if_it_were_alone(name: str, samples: list[dict[str, int]]) -> None:
    fusion = fusion_of(name, **MERGING[name])
    together = fusion(batch(samples))
    for row, sample in enumerate(samples):
        assert_same(read(together, row), read(fusion(batch([sample])), 0), rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(sample=SAMPLES)
@pytest.mark.parametrize("name", MERGING)
def test_a_sample_without_a_modality_is_merged_as_by_a_model_without_it(name: str, sample: dict[str, int]) -> None:
    both = fusion_of(name, **MERGING[name])
    without = fusion_of(name, ("one",), **MERGING[name])
    without.load_state_dict({key: own for key, own in both.state_dict().items() if not key.startswith("blocks.two.")})
    one = {name: steps for name, steps in sample.items() if name != "two"}
    if one:
        assert_same(read(both(batch([one])), 0), read(without(batch([one])), 0), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", MERGING)
def test_a_sample_with_the_major_modality_alone_keeps_its_tokens(name: str) -> None:
    modalities = batch([{"main": 2}, {"main": 1, "one": 1}, {"two": 2}])
    segments = fusion_of(name, **MERGING[name])(modalities)
    ((prefix, own),) = read(segments, 0)
    assert prefix == "Frame {index}: "
    assert torch.equal(own, modalities.tokens["main"].values[0].flatten(0, 1))
    assert [len(own) for _, own in read(segments, 2)] == [6 if name == "linear" else QUERIES]


@pytest.mark.parametrize(("name", "option"), [("linear", "num_tokens"), ("cross_attention", "num_prompts")])
def test_less_than_one_token_is_refused(name: str, option: str) -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion(name, ["one"], FusionSizes(WIDTH, QUERIES), options={option: 0})
    assert str(caught.value) == (
        f"fusion: {option}=0 leaves the language model nothing to read. Accepted: 1 or more. Leave {option} out, or "
        "raise it."
    )


def test_linear_is_refused_where_a_model_makes_its_own_visual_tokens() -> None:
    with pytest.raises(OptionsError) as caught:
        make_fusion("linear", ["one"], FusionSizes(WIDTH, QUERIES, visual=VisualLayout(WIDTH)))
    assert str(caught.value) == (
        "linear maps all tokens of a step, the visual ones included, to a fixed number, and a vision-language model "
        "makes its own visual tokens, as many as a picture needs. Accepted: a backbone in BLIP-2 or InstructBLIP "
        "format, or the major modality with own_tokens=False. Use fusion='ungated', which leaves the visual tokens as "
        "they are."
    )
    sizes = FusionSizes(WIDTH, QUERIES, major_queries=QUERIES, visual=VisualLayout(WIDTH))
    assert isinstance(make_fusion("linear", ["one"], sizes), LinearFusion)
    own = FusionSizes(WIDTH, QUERIES, visual=VisualLayout(WIDTH))
    assert isinstance(make_fusion("cross_attention", ["one"], own), CrossAttentionFusion)
