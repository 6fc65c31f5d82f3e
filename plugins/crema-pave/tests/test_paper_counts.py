"""The PAVE paper's counts, on the real shapes without weights (Tables 1, 4 and 6)."""

from __future__ import annotations

from typing import Any

import pytest

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from tests.support.modalities import wave_spec
from tests.support.pave_flops import patch_multiply_adds

pytestmark = pytest.mark.slow  # builds whole published shapes


def trained(model: CremaModel) -> int:
    return sum(parameter.numel() for parameter in model.trainable_parameters().values())


PAVE_COUNTS = [
    ("0.5b", 1024, {}, 41_428_608),  # Table 1, 41.4M
    ("7b", 1024, {}, 170_477_056),  # Table 1, 170.5M
    # The same language model again: seconds of memory traffic for 647 MB of LoRA each.
    pytest.param("7b", 768, {}, 170_345_984, marks=pytest.mark.slow),  # Table 6, 170.3M
    pytest.param(
        "7b", 1024, {"num_layers": 3}, 172_314_624, marks=pytest.mark.slow
    ),  # the published Music-AVQA model; the paper prints 170.5M
    ("0.5b", 1024, {"queries": "learnable"}, 44_049_536),  # Table 4 prints 43.9M
]


@pytest.mark.parametrize(("size", "feature_dim", "options", "count"), PAVE_COUNTS)
def test_pave_trains_the_published_numbers(size: str, feature_dim: int, options: dict[str, Any], count: int) -> None:
    model = build(
        ["video", wave_spec(feature_dim=feature_dim)],
        backbone=f"llava-onevision-qwen2-{size}",
        fusion={"name": "pave", **options},
        tuning={"rank": 64, "alpha": 16},
    )
    assert trained(model) == count
    lora = sum(parameter.numel() for parameter in model.language_parameters().values())
    assert lora == {"0.5b": 35_192_832, "7b": 161_480_704}[size]


def test_a_patch_costs_what_the_released_one_does() -> None:
    model = build(
        [{"name": "video", "num_frames": 8}, wave_spec()], backbone="llava-onevision-qwen2-0.5b", fusion="pave"
    )
    cost = model.describe().cost
    assert cost.num_tokens == 8 * 14 * 15 + 21  # newlines after every row of 14; the chat's words and the question
    own = patch_multiply_adds(
        num_frames=8,
        tokens_per_frame=196,
        num_steps=4,
        tokens_per_step=3,
        side_dim=10,
        query_dim=1152,
        output_dim=896,
    )
    assert cost.gflops["fusion"] == pytest.approx(2 * own / 1e9, rel=2e-3)
    plain = build([{"name": "video", "num_frames": 8}], backbone="llava-onevision-qwen2-0.5b", fusion="concat")
    seen = plain.describe().cost.gflops["vision encoder"]
    assert cost.gflops["vision encoder"] == pytest.approx(seen, rel=0.02), "queries cost no second pass of its layers"


@pytest.mark.parametrize("name", ["llava-onevision-qwen2-0.5b", "llava-onevision-qwen2-7b"])
def test_shapes_of_video_language_models_name_where_their_weights_are(name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        build(["video"], backbone=name, fusion="pave").backbone.require_weights()
    assert str(caught.value) == (
        f"'{name}' is a backbone of shapes alone, for counting. Answers, training and saving need weights. "
        f"Use backbone='llava-hf/{name}-ov-hf' where the hub is reachable, or 'crema-tiny'."
    )
