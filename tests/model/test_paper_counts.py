"""The paper's parameter counts, on the real shapes without weights (Tables 1-4 and 19)."""

from __future__ import annotations

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.model.load_backbone import load_backbone
from crema_core.model.shipped import SHAPES
from crema_core.plugins.spec import MMQASpec, ModalitySpec
from tests.support.modalities import frames_spec, points_spec, wave_spec

pytestmark = pytest.mark.slow  # builds whole published shapes

XL = "blip2-flan-t5-xl"
SOUND = {"feature_dim": 768, "mmqa": MMQASpec()}
POINTS = {"feature_dim": 1408, "mmqa": MMQASpec(norm=False)}


def visual(count: int) -> list[ModalitySpec]:
    """The major modality and up to one other class of per-frame modalities; counts do not depend on names."""
    return [frames_spec("main", mmqa=MMQASpec()), frames_spec("other", mmqa=MMQASpec())][:count]


def adapter(model: CremaModel, name: str) -> int:
    return sum(parameter.numel() for parameter in model.adapter_parameters(name).values())


def trained(model: CremaModel) -> int:
    return sum(parameter.numel() for parameter in model.trainable_parameters().values())


def test_a_visual_modality_has_3_96_million() -> None:
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


def test_individual_qformers_have_106_7_million_each() -> None:
    # The paper has 108M for one and 432M for four; what makes 108M is not said.
    model = build(visual(2), backbone=XL, fusion="individual_qformers")
    assert model.backbone.qformer is not None
    plain = sum(parameter.numel() for parameter in model.backbone.qformer.parameters())
    rest = 3_961_600 - 2_359_296  # a modality's adapter without its LoRA
    assert adapter(model, "main") == adapter(model, "other") == plain + rest
    assert trained(model) == 2 * adapter(model, "main")
    assert round(adapter(model, "main") / 1e6, 1) == 106.7
    rows = {row.name: row for row in model.describe().components}
    assert (rows["main"].trainable, rows["Q-Former"].frozen > plain) == (plain + rest, True)


def test_the_frozen_parts_have_the_published_sizes() -> None:
    backbone = load_backbone(XL)
    count = {
        part: sum(parameter.numel() for parameter in getattr(backbone, part).parameters())
        for part in ("vision_model", "qformer", "language_model")
    }
    assert round(count["vision_model"] / 1e6, 1) == 986.0
    assert round(count["qformer"] / 1e6, 1) == 105.1
    assert round(count["language_model"] / 1e9, 2) == 2.85


@pytest.mark.parametrize("name", sorted(file.stem for file in SHAPES.glob("*.json")))
def test_every_shape_builds_in_no_memory_and_is_described(name: str) -> None:
    model = build(visual(1), backbone=name)
    weights = model.backbone.language_model.get_input_embeddings().weight
    assert weights.untyped_storage().nbytes() <= 8
    if name.endswith(("xxl", "6.7b", "13b")):  # the same code on more layers
        return
    row = {component.name: component for component in model.describe().components}
    assert row["language model"].gflops > 100


def test_shapes_cannot_answer_or_be_saved() -> None:
    model = build(visual(1), backbone=XL)
    with pytest.raises(CheckpointError) as caught:
        model.answer("what ?", main=torch.zeros(1, 3, 224, 224))
    assert str(caught.value) == (
        "'blip2-flan-t5-xl' is a backbone of shapes alone, for counting. Answers, training and saving need weights. "
        "Use backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable, or 'crema-tiny'."
    )
