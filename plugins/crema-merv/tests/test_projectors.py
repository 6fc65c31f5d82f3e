"""Projectors on any grid, and on samples shorter than the rest of their batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from crema_core.errors import OptionsError
from crema_core.modality import FeaturePart
from crema_merv.projectors import Projector
from crema_merv.steps import mean_of_steps, pool_steps

KINDS = ("average", "average_3d", "attentive", "conv", "conv_3d", "full")
sizes = st.integers(1, 5)


def projector_of(kind: str, layout: FeaturePart, **options: Any) -> Projector:
    torch.manual_seed(0)
    small = {"token_grid": (2, 2), "num_blocks": 1, "num_heads": 2}
    return Projector(layout, width=6, kind=kind, **{**small, **options})


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), steps=sizes, rows=sizes, columns=sizes, out=st.tuples(sizes, sizes), pad=sizes)
def test_any_grid_becomes_the_wanted_one_and_padding_changes_nothing(
    kind: str, steps: int, rows: int, columns: int, out: tuple[int, int], pad: int
) -> None:
    layout = FeaturePart("e", steps, rows, columns, 4)
    projector = projector_of(kind, layout, token_grid=out, num_steps=3)
    features = torch.randn(1, steps, rows * columns, 4)
    whole = projector(features, torch.ones(1, steps, dtype=torch.bool))
    tokens = rows * columns if kind == "full" else out[0] * out[1]
    assert whole.values.shape == (1, 3 if kind.endswith("3d") else steps, tokens, 6)
    assert projector.num_tokens == tokens
    longer = torch.randn(1, steps + pad, rows * columns, 4)
    together = torch.cat([F.pad(features, (0, 0, 0, 0, 0, pad), value=9.0), longer])
    mask = torch.arange(steps + pad) < torch.tensor([[steps], [steps + pad]])
    padded = projector(together, mask)
    real = whole.values.shape[1]
    torch.testing.assert_close(padded.values[:1, :real], whole.values, atol=1e-5, rtol=1e-5)
    assert padded.mask[0].sum() == real
    assert padded.values[0, real:].eq(0).all()


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 9), wanted=st.integers(1, 9), seed=st.integers(0, 99))
def test_steps_are_pooled_as_torch_pools(steps: int, wanted: int, seed: int) -> None:
    values = torch.randn(2, steps, 3, generator=torch.Generator().manual_seed(seed))
    pooled, mask = pool_steps(values, torch.ones(2, steps, dtype=torch.bool), wanted)
    expected = F.adaptive_avg_pool1d(values.transpose(1, 2), wanted).transpose(1, 2)
    torch.testing.assert_close(pooled, expected)
    assert mask.shape == (2, wanted)
    assert mask.all()


def test_a_sample_without_steps_stays_empty() -> None:
    mask = torch.tensor([[False, False], [True, False]])
    values = torch.ones(2, 2, 3)
    assert mean_of_steps(values, mask).tolist() == [[0, 0, 0], [1, 1, 1]]
    pooled, pooled_mask = pool_steps(values, mask, 2)
    assert pooled.sum((1, 2)).tolist() == [0, 6]
    assert pooled_mask.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("kind", KINDS)
def test_features_in_half_precision_meet_weights_in_full(kind: str) -> None:
    layout = FeaturePart("e", 2, 3, 3, 4)
    features = torch.randn(1, 2, 9, 4)
    mask = torch.ones(1, 2, dtype=torch.bool)
    projector = projector_of(kind, layout)
    tokens = projector(features.bfloat16(), mask).values
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens, projector(features.bfloat16().float(), mask).values)


def test_an_encoder_of_one_token_is_only_mapped() -> None:
    projector = projector_of("class_token", FeaturePart("e", 1, 1, 1, 4))
    features = torch.randn(2, 1, 1, 4)
    tokens = projector(features, torch.ones(2, 1, dtype=torch.bool)).values
    torch.testing.assert_close(tokens, projector.map(features))
    assert projector.num_tokens == 1


def test_queries_and_weights_of_the_attentive_projector_start_as_documented() -> None:
    projector = projector_of("attentive", FeaturePart("e", 1, 2, 2, 64), num_heads=8)
    own = projector.resampler
    assert own.queries.abs().max() <= 2.0
    assert own.query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert own.output.weight.std().item() == pytest.approx(0.02 / 2**0.5, rel=0.1)
    assert own.mlp[2].weight.std().item() == pytest.approx(0.02 / 2**0.5, rel=0.1)
    assert own.key_value.bias.eq(0).all()


@pytest.mark.parametrize(("options", "told"), [
    ({"kind": "averge"}, "'averge' is no kind of projector. Accepted: average, average_3d, attentive, conv, conv_3d, "
     "full, class_token. Did you mean 'average'? Use 'average', the paper's."),
    ({"map_kind": "linaer"}, "'linaer' is no map of a projector. Accepted: linear, gelu_mlp, fused_gelu_mlp, none. "
     "Did you mean 'linear'? Use map='linear', the paper's."),
    ({"map_kind": "none"}, "map='none' was asked for tokens 4 wide and a language model 6 wide. Without a map the "
     "widths must be equal. Use map='linear'."),
    ({"kind": "class_token"}, "The projector 'class_token' was asked of the encoder 'e', which gives 6 tokens a step. "
     "It takes encoders of one token. Use 'average' with token_grid=(1, 1), which averages all of them."),
    ({"kind": "attentive", "num_heads": 8}, "8 heads were asked of an attentive projector for features 4 wide. The "
     "heads divide the width. Use projector={'kind': 'attentive', 'num_heads': 4}, or another kind."),
    ({"token_grid": (0, 8)}, "A projector was asked for 0 rows, 8 columns and all steps. Each is at least 1. Use "
     "token_grid=(8, 8), the paper's, and leave num_steps out."),
])  # fmt: skip
def test_what_a_projector_cannot_do_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionsError) as caught:
        Projector(FeaturePart("e", 2, 3, 2, 4), width=6, **options)
    assert str(caught.value) == told
