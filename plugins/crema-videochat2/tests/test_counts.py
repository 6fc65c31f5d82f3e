"""Numbers of parameters at the published sizes, on shapes alone; the tables of docs/fidelity.md hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.api.build import build
from crema_core.api.model import CremaModel

SHAPE = "videochat2-mistral-7b"
PAGE = Path(__file__).parents[3] / "docs" / "fidelity.md"
TEXT_PARTS = ("word_embeddings", "position_embeddings", ".intermediate.")


def count(parameters: object) -> int:
    return sum(parameter.numel() for parameter in parameters)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def model() -> CremaModel:
    return build(["video", "flow", "depth"], backbone=SHAPE)


@pytest.mark.slow
def test_the_published_model_has_its_sizes(model: CremaModel) -> None:
    backbone = model.backbone
    vision, norm = backbone.vision_model, backbone.vision_model.post_layernorm
    assert count(vision.parameters()) - count(norm.parameters()) == 290_477_056
    assert count(norm.parameters()) == 2_048
    qformer = {name: one for name, one in backbone.qformer.named_parameters() if ".lora_" not in name}
    assert count(qformer.values()) == 182_121_216
    of_text = [
        one
        for name, one in qformer.items()
        if any(part in name for part in TEXT_PARTS) or (".output." in name and "attention" not in name)
    ]
    assert count(qformer.values()) - count(of_text) == 101_598_720
    assert count(backbone.language_projection.parameters()) == 3_149_824
    lora = [one for name, one in backbone.language_model.named_parameters() if ".lora_" in name]
    assert len(lora) == 2 * (7 * 32 + 1)
    assert count(lora) == 42_520_576
    assert backbone.query_tokens.shape == (1, 96, 768)
    trained = [*vision.parameters(), *qformer.values(), *backbone.language_projection.parameters(), *lora]
    assert count(trained) + backbone.query_tokens.numel() == 518_344_448  # of stage 3


def test_a_modality_has_the_derived_sizes(model: CremaModel) -> None:
    adapter = model.branch("flow").adapter
    assert count(adapter.lora().values()) == 2_359_296
    assert count(adapter.output.parameters()) == 3_149_824
    assert count(adapter.norm.parameters()) == 2_048
    assert adapter.queries.numel() == 73_728
    assert count(adapter.trained().values()) == 5_584_896
    assert count(model.fusion.parameters()) == 33_558_528


def test_the_page_has_these_counts(model: CremaModel) -> None:
    page = PAGE.read_text(encoding="utf-8")
    one, fused = count(model.adapter_parameters("flow").values()), 4096 * 4096
    for names, paper in ((("video", "flow"), "21M"), (("video", "flow", "depth"), "45M")):
        blocks = (len(names) - 1) * fused + 4096
        total = len(names) * one + blocks
        row = f"| {', '.join(names)} | {one:,} | {blocks:,} | {total:,} | {total - one:,} | {paper} |"
        assert row in page
    assert count(model.trainable_parameters().values()) == total


@pytest.mark.slow
def test_the_vision_encoder_s_arithmetic_is_counted(model: CremaModel) -> None:
    only = build(["video"], backbone=SHAPE).describe()
    (vision,) = [part for part in only.components if part.name == "vision encoder"]
    assert vision.gflops == pytest.approx(2747, abs=1)
    with_32 = build(["video", "audio"], backbone=SHAPE, mmqa={"num_queries": 32})
    assert count(with_32.adapter_parameters("video").values()) == 5_535_744
    assert count(with_32.adapter_parameters("audio").values()) == 5_535_744 + 768 * 1024 + 1024
