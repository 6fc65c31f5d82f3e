"""InstructBlipVideo of transformers as a backbone: its tokens, its answers, adapters on its Q-Former."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import InstructBlipVideoForConditionalGeneration

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from tests.support.modalities import wave_spec
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.videochat2 import save_instructblip_video

QUESTIONS = ["What is it?", "Is the colour of the thing left or right, red or blue?"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_instructblip_video(tmp_path_factory.mktemp("instructblip") / "video")


@pytest.fixture(scope="module")
def theirs(place: Path) -> InstructBlipVideoForConditionalGeneration:
    return InstructBlipVideoForConditionalGeneration.from_pretrained(place).eval()


def clip() -> Tensor:
    return torch.randint(0, 256, (9, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def read(model: CremaModel) -> tuple[Tensor, Tensor]:
    """Return the tokens `(2, T, Q, L)` of a clip with either question, and its frames `(T, 3, S, S)`."""
    batches = prepare_batch(model, [{"video": clip()}] * 2)
    return model.tokens(model.encode(batches), QUESTIONS)["video"].values, batches["video"].batch["frames"][0]


def test_tokens_are_transformers_own(place: Path, theirs: InstructBlipVideoForConditionalGeneration) -> None:
    model = build(["video"], backbone=place)
    ours, frames = read(model)
    assert len(frames) == 4, "as its processor takes"
    for row, question in enumerate(QUESTIONS):
        ids = model.backbone.qformer.tokenizer([question], return_tensors="pt")
        found = theirs.get_video_features(frames[None], ids["input_ids"], ids["attention_mask"], return_dict=True)
        assert_close_to_scale(ours[row].flatten(0, 1), found.pooler_output.flatten(0, -2), ulps=MODEL_ULPS)


def test_logits_are_transformers_own(place: Path, theirs: InstructBlipVideoForConditionalGeneration) -> None:
    model = build([{"name": "video", "prefix": ""}], backbone=place)
    made = model.tokens(model.encode(prepare_batch(model, [{"video": clip()}])), QUESTIONS[:1])
    prompt = model.prompt(made, QUESTIONS[:1])
    ids = model.language.tokenizer(QUESTIONS[:1], return_tensors="pt")["input_ids"]
    embeds = torch.cat([made["video"].values.flatten(1, 2), theirs.get_input_embeddings()(ids)], dim=1)
    assert_close_to_scale(prompt.embeds, embeds, ulps=1)
    logits = theirs.language_model(inputs_embeds=embeds).logits[:, -1]
    found = model.backbone.language_model(inputs_embeds=prompt.embeds).logits[:, -1]
    assert_close_to_scale(found, logits, ulps=MODEL_ULPS)


def test_an_adapter_of_another_modality_is_built_on_its_qformer(place: Path, tmp_path: Path) -> None:
    model = build(["video", wave_spec()], backbone=place, mmqa={"lora_rank": 2})
    wave = torch.randn(3, 3, 10)
    plain = model.answer(QUESTIONS[0], ["red", "blue"], video=clip())
    both = model.answer(QUESTIONS[0], ["red", "blue"], video=clip(), wave=wave)
    assert both.used == ("video", "wave")
    assert both.num_tokens > plain.num_tokens
    batches = prepare_batch(model, [{"wave": wave}])
    tokens = model.tokens(model.encode(batches), QUESTIONS[:1])["wave"].values
    tokens.sum().backward()
    trained = model.adapter_parameters("wave").values()
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in trained)
