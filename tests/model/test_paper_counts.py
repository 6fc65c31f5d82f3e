"""The paper's parameter counts, on the real shapes without weights (Tables 1-4 and 19)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.fusion.pave.flops import patch_multiply_adds
from crema_core.model.load_backbone import load_backbone
from crema_core.model.shapes import shape_names
from crema_core.plugins.spec import MMQASpec, ModalitySpec
from tests.support.senses import frames_spec, points_spec, wave_spec

XL = "blip2-flan-t5-xl"
SOUND = {"feature_dim": 768, "mmqa": MMQASpec()}
POINTS = {"feature_dim": 1408, "mmqa": MMQASpec(norm=False)}


def visual(count: int) -> list[ModalitySpec]:
    """The major sense and up to one other class of per-frame senses; counts do not depend on names."""
    return [frames_spec("main", mmqa=MMQASpec()), frames_spec("other", mmqa=MMQASpec())][:count]


def adapter(model: CremaModel, name: str) -> int:
    return sum(parameter.numel() for parameter in model.adapter_parameters(name).values())


def trained(model: CremaModel) -> int:
    return sum(parameter.numel() for parameter in model.trainable_parameters().values())


def test_a_visual_sense_has_3_96_million() -> None:
    model = build(visual(1), backbone=XL)
    assert adapter(model, "main") == trained(model) == 3_961_600


@pytest.mark.parametrize(("rank", "millions"), [(32, 3.8), (64, 5.0), (128, 7.4)])
def test_sound_by_lora_rank(rank: int, millions: float) -> None:
    model = build([wave_spec(**SOUND)], backbone=XL, mmqa={"lora_rank": rank})
    assert trained(model) / 1e6 == pytest.approx(millions, abs=0.07)


@pytest.mark.parametrize(("rank", "millions"), [(32, 2.7), (64, 3.9), (128, 6.3)])
def test_points_by_lora_rank(rank: int, millions: float) -> None:
    model = build([points_spec(**POINTS)], backbone=XL, mmqa={"lora_rank": rank})
    assert trained(model) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("num_visual", "num_sound", "millions"), [(3, 0, 20), (4, 0, 28), (4, 1, 38)], ids=["V,F,D", "V,F,D,N", "V,A,F,D,N"]
)
def test_sets_with_fusion(num_visual: int, num_sound: int, millions: int) -> None:
    model = build([*visual(2), *([wave_spec(**SOUND)] if num_sound else [])], backbone=XL)
    block = model.fusion.block_parameters(["other"])
    one_block = sum(parameter.numel() for parameter in block.values())
    total = num_visual * adapter(model, "main") + (num_visual + num_sound - 1) * one_block + 2048
    total += num_sound * (adapter(model, "wave") if num_sound else 0)
    assert round(total / 1e6) == millions


def test_video_and_flow_have_8_million_before_fusion() -> None:
    model = build(visual(2), backbone=XL)
    assert round((adapter(model, "main") + adapter(model, "other")) / 1e6) == 8
    assert trained(model) == 2 * 3_961_600 + 2048 * 2048 + 2048


def test_the_frozen_parts_have_the_published_sizes() -> None:
    backbone = load_backbone(XL)
    count = {
        part: sum(parameter.numel() for parameter in getattr(backbone, part).parameters())
        for part in ("vision_model", "qformer", "language_model")
    }
    assert round(count["vision_model"] / 1e6, 1) == 986.0
    assert round(count["qformer"] / 1e6, 1) == 105.1
    assert round(count["language_model"] / 1e9, 2) == 2.85


@pytest.mark.parametrize("name", [name for name in shape_names() if not name.startswith(("llava", "qwen"))])
def test_every_shape_builds_in_no_memory_and_is_described(name: str) -> None:
    model = build(visual(1), backbone=name)
    weights = model.backbone.language_model.get_input_embeddings().weight
    assert weights.untyped_storage().nbytes() <= 8
    if name.endswith(("xxl", "6.7b", "13b")):  # the same code on more layers
        return
    row = {component.name: component for component in model.describe().components}
    assert row["language model"].gflops > 100


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
    assert cost.num_tokens == 8 * 14 * 15 + 4  # newlines after every row of 14; the question
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


def test_qwen_has_the_published_number_of_weights() -> None:
    model = build(
        [{"name": "video", "num_frames": 8}], backbone="qwen2.5-vl-3b", fusion="pave", tuning={"rank": 64, "alpha": 16}
    )
    described = model.describe()
    assert described.total.frozen == 3_754_622_976
    lora = 36 * 64 * (4 * 2048 + 2 * (2048 + 256) + 3 * (2048 + 11008))
    assert described.total.trainable == lora == 119_734_272
    assert described.cost.num_tokens == 4 * 144 + 4  # a step is two frames; the question


def test_an_image_size_of_qwen_changes_its_tokens_and_no_weight() -> None:
    video = {"name": "video", "num_frames": 8}
    model = build([video], backbone="qwen2.5-vl-3b", fusion="pave", image_size=224)
    assert model.describe().cost.num_tokens == 4 * 64 + 4
    assert model.describe().total.frozen == 3_754_622_976


@pytest.mark.parametrize("name", [name for name in shape_names() if name.startswith(("llava", "qwen"))])
def test_shapes_of_video_language_models_name_where_their_weights_are(name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        build(["video"], backbone=name, fusion="pave").backbone.require_weights()
    hub = {"l": f"llava-hf/{name}-ov-hf", "q": "Qwen/Qwen2.5-VL-3B-Instruct"}[name[0]]
    assert str(caught.value) == (
        f"'{name}' is a backbone of shapes alone, for counting. Answers, training and saving need weights. "
        f"Use backbone='{hub}' where the hub is reachable, or 'crema-tiny'."
    )


def test_shapes_cannot_answer_or_be_saved() -> None:
    model = build(visual(1), backbone=XL)
    with pytest.raises(CheckpointError) as caught:
        model.answer("what ?", main=torch.zeros(1, 3, 224, 224))
    assert str(caught.value) == (
        "'blip2-flan-t5-xl' is a backbone of shapes alone, for counting. Answers, training and saving need weights. "
        "Use backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable, or 'crema-tiny'."
    )
