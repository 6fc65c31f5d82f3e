"""The training of a tiny video language model, a few steps of each stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Blip2ForConditionalGeneration

from crema_core.api.build import build
from crema_core.model.shipped import tiny_backbone_path
from crema_world import WorldError
from crema_world.pretrain_video import new_video_model, pretrain_video
from crema_world.vision_stage import normalize, patch_features

pytest.importorskip("crema_pave", reason="a strategy that takes a backbone's visual tokens")


@pytest.mark.slow
def test_a_few_steps_write_a_backbone_that_pave_takes(tmp_path: Path) -> None:
    lines: list[str] = []
    stages = ("language", "lookup", "align", "pictures")
    steps = dict.fromkeys(("language_steps", "lookup_steps", "align_steps", "picture_steps"), 4)
    sizes = {**steps, "num_pictures": 12, "batch_size": 4}
    pretrain_video(tmp_path / "tiny", report=lines.append, **sizes)
    assert [line.split()[:2] for line in lines] == [[stage, "4/4"] for stage in stages]
    model = build([{"name": "video", "num_frames": 2}], backbone=tmp_path / "tiny", fusion="pave")
    assert model.template.choice_scoring == "likelihood"
    example = model.branch("video").modality.example(torch.Generator().manual_seed(0))
    scores = model.answer("what color is the left thing ?", ["red", "blue"], video=example).scores
    assert sum(torch.tensor(list(scores.values())).exp().tolist()) > 0
    assert model.describe().cost.num_tokens < 60


def test_the_encoder_starts_as_the_vit_of_crema_tiny_without_its_class_token() -> None:
    model, _ = new_video_model(seed=0)
    tiny = Blip2ForConditionalGeneration.from_pretrained(tiny_backbone_path()).vision_model
    pixels = normalize(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8).numpy())
    with torch.no_grad():
        ours = model.eval().model.vision_tower(pixels, output_hidden_states=True).hidden_states
        embedded = tiny.embeddings(pixels)[:, 1:]
        torch.testing.assert_close(ours[0], embedded, atol=1e-5, rtol=1e-5)
        wanted = patch_features(tiny, pixels)[:, 1:]
    assert torch.nn.functional.cosine_similarity(ours[-1], wanted, dim=-1).mean() > 0.8


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(WorldError) as caught:
        pretrain_video(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} exists and is not an empty folder. A backbone is written only into a new or empty folder. "
        "Choose another folder with --out. Nothing was changed."
    )
