"""Mixers of any number of encoders, some of them absent."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from crema_core.errors import OptionsError
from crema_merv.merv import make_mixer
from crema_merv.mixers import Mixer, query_spread
from crema_merv.released_mixer import ReleasedMixer

KINDS = ("cross_attention", "released", "scalar", "average", "channel", "channel_norm", "concat")
WEIGHING = ("cross_attention", "released", "scalar", "average")
WIDTH = 5


def mixer_of(kind: str, num_encoders: int) -> Mixer:
    torch.manual_seed(0)
    if kind == "released":
        return ReleasedMixer(num_encoders, width=WIDTH, inner_width=7)
    mixer = make_mixer(kind, num_encoders, width=WIDTH)
    if kind == "cross_attention":
        nn.init.normal_(mixer.get_parameter("query"))
    return mixer


def tokens_of(num_encoders: int, present: torch.Tensor) -> list[torch.Tensor]:
    values = torch.randn(num_encoders, len(present), 3, 2, WIDTH)
    return list(values * present.T[:, :, None, None, None])


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(WEIGHING), present=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1))
def test_weights_are_shared_by_the_encoders_a_sample_has(kind: str, present: list[list[bool]]) -> None:
    own = torch.tensor(present)
    values = tokens_of(4, own)
    mask = torch.ones(len(own), 3, dtype=torch.bool)
    mixed = mixer_of(kind, 4)(values, mask, own)
    assert mixed.weights is not None
    torch.testing.assert_close(mixed.weights.sum(1), own.any(1).float())
    assert mixed.weights[~own].eq(0).all()
    assert mixed.weights[own].gt(0).all()
    torch.testing.assert_close(mixed.values, torch.einsum("be,ebtkl->btkl", mixed.weights, torch.stack(values)))
    assert torch.equal(mixed.mask, mask & own.any(1, keepdim=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_mixed_the_same_beside_others(kind: str) -> None:
    own = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
    values, mask = tokens_of(3, own), torch.tensor([[True, True, False], [True] * 3, [True] * 3])
    values = [tokens * mask[:, :, None, None] for tokens in values]
    mixer = mixer_of(kind, 3)
    together = mixer(values, mask, own)
    for row in range(3):
        alone = mixer([tokens[row : row + 1] for tokens in values], mask[row : row + 1], own[row : row + 1])
        torch.testing.assert_close(together.values[row : row + 1], alone.values)
        assert torch.equal(together.mask[row : row + 1], alone.mask)


@pytest.mark.parametrize("kind", ["cross_attention", "released"])
def test_padded_steps_do_not_count_in_the_mean_an_encoder_is_scored_by(kind: str) -> None:
    mixer = mixer_of(kind, 2)
    values = [torch.randn(1, 2, 3, WIDTH) for _ in range(2)]
    present = torch.ones(1, 2, dtype=torch.bool)
    short = mixer(values, torch.ones(1, 2, dtype=torch.bool), present)
    padded = [nn.functional.pad(tokens, (0, 0, 0, 0, 0, 4)) for tokens in values]
    mask = torch.tensor([[True, True, False, False, False, False]])
    torch.testing.assert_close(mixer(padded, mask, present).weights, short.weights)


def test_one_encoder_alone_is_left_as_it_is() -> None:
    present = torch.ones(2, 1, dtype=torch.bool)
    values = tokens_of(1, present)
    for kind in WEIGHING:
        mixed = mixer_of(kind, 1)(values, torch.ones(2, 3, dtype=torch.bool), present)
        torch.testing.assert_close(mixed.values, values[0])


def test_tokens_in_half_precision_stay_in_it() -> None:
    present, mask = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    values = [tokens.bfloat16() for tokens in tokens_of(2, present)]
    for kind in KINDS:
        assert mixer_of(kind, 2).bfloat16()(values, mask, present).values.dtype == torch.bfloat16


def test_concatenation_puts_encoder_after_encoder() -> None:
    own = torch.tensor([[True, False], [True, True]])
    values = tokens_of(2, own)
    mixed = mixer_of("concat", 2)(values, torch.ones(2, 3, dtype=torch.bool), own)
    assert torch.equal(mixed.values, torch.cat(values, dim=1))
    assert mixed.mask.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    assert mixed.weights is None


@pytest.mark.parametrize(("inner", "width"), [(48, 80), (64, 64)])
def test_the_vector_starts_as_that_of_the_released_attention(inner: int, width: int) -> None:
    torch.manual_seed(0)
    vectors = []
    for _ in range(60):
        attention = nn.MultiheadAttention(inner, 1, kdim=width, vdim=width)
        query = nn.init.xavier_uniform_(torch.empty(1, inner))
        packed = attention.in_proj_weight
        maps = (attention.q_proj_weight, attention.k_proj_weight) if packed is None else packed.chunk(3)[:2]
        vectors.append((maps[0] @ query[0]) @ maps[1] / math.sqrt(inner))
    spread = torch.stack(vectors).std().item()
    assert query_spread(inner, width) == pytest.approx(spread, rel=0.08)
    own = torch.stack([ReleasedMixer(2, width=width, inner_width=inner).vector() for _ in range(60)])
    assert own.std().item() == pytest.approx(spread, rel=0.08)


def test_at_the_start_all_encoders_weigh_nearly_the_same() -> None:
    torch.manual_seed(0)
    values = list(torch.randn(4, 2, 4, 8, 4096))
    ones = torch.ones(2, 4, dtype=torch.bool)
    weights = make_mixer("cross_attention", 4, width=4096)(values, ones, ones).weights
    assert weights is not None
    torch.testing.assert_close(weights, torch.full((2, 4), 0.25), atol=0.02, rtol=0)


def test_an_unknown_mixer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionsError) as caught:
        make_mixer("cross_atention", 2, width=4)
    assert str(caught.value) == (
        "'cross_atention' is no mixer of encoders. Accepted: cross_attention, released, scalar, average, channel, "
        "channel_norm, concat. Did you mean 'cross_attention'? Use 'cross_attention', the paper's."
    )
