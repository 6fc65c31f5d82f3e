"""A video language model as backbone says exactly what transformers says with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LlavaOnevisionForConditionalGeneration,
    VideoLlavaForConditionalGeneration,
)

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_pave.backbones.families import processor_chat_template
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.video_language import SIDE, VIDEO_KINDS, VideoKind

CLASSES: dict[VideoKind, Any] = {
    "llava-onevision": LlavaOnevisionForConditionalGeneration,
    "video-llava": VideoLlavaForConditionalGeneration,
}
NUM_FRAMES = {"llava-onevision": 3, "video-llava": 8}
QUESTION = "What colour is the dog ?"


def fusion_of(kind: VideoKind) -> dict[str, Any]:
    return {"name": "pave", "newlines": "one_token" if kind == "llava-onevision" else "none"}


def clip(kind: VideoKind, seed: int = 0) -> Tensor:
    shape = (NUM_FRAMES[kind], 3, SIDE, SIDE)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def built(folder: Path, kind: VideoKind) -> CremaModel:
    return build([{"name": "video", "num_frames": NUM_FRAMES[kind]}], backbone=folder, fusion=fusion_of(kind))


def their_inputs(folder: Path, model: CremaModel, kind: VideoKind, pixels: Tensor) -> dict[str, Tensor]:
    """What transformers' processor would make: the chat template's text with as many placeholders as visual tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = model.language.tokenizer.chat_template
    chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    layout = model.fusion.grid  # type: ignore[union-attr]
    count = NUM_FRAMES[kind] * layout[0] * layout[1] + int(kind == "llava-onevision")  # type: ignore[index,operator]
    ids = tokenizer(text.replace("<video>", "<video>" * count), return_tensors="pt")["input_ids"]
    return {"input_ids": ids, "pixel_values_videos": pixels, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_visual_tokens_and_logits_are_those_of_transformers(
    video_models: Callable[[VideoKind], Path], kind: VideoKind
) -> None:
    folder = video_models(kind)
    model = built(folder, kind)
    theirs = CLASSES[kind].from_pretrained(folder).eval()
    batches = prepare_batch(model, [{"video": clip(kind)}])
    pixels = batches["video"].batch["frames"]
    with torch.no_grad():
        tokens = model.tokens(model.encode(batches), [QUESTION])
        own = theirs.model.get_video_features(pixels, return_dict=True).pooler_output
        visual = tokens["video"].values.flatten(0, 2)
        torch.testing.assert_close(visual, own.flatten(0, 1)[: len(visual)], atol=1e-5, rtol=1e-5)
        prompt = model.prompt(tokens, [QUESTION])
        inputs = their_inputs(folder, model, kind, pixels)
        assert prompt.embeds.shape[1] == inputs["input_ids"].shape[1]
        answer = torch.tensor([model.language.chat_format.answer_ids("red dog")])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        wanted = theirs(**inputs).logits[:, -answer.shape[1] - 1 : -1]
        assert_close_to_scale(model.language.logits(prompt, answer), wanted, ulps=MODEL_ULPS)


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_generated_answers_are_those_of_transformers(
    video_models: Callable[[VideoKind], Path], kind: VideoKind
) -> None:
    folder = video_models(kind)
    model = built(folder, kind)
    theirs = CLASSES[kind].from_pretrained(folder).eval()
    pixels = prepare_batch(model, [{"video": clip(kind)}])["video"].batch["frames"]
    inputs = their_inputs(folder, model, kind, pixels)
    ids = theirs.generate(**inputs, max_new_tokens=6, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    wanted = model.language.tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
    ours = model.answer_many([{"question": QUESTION, "video": clip(kind)}])
    assert wanted.startswith(ours[0].text) or ours[0].text.startswith(wanted)


def test_a_damaged_chat_template_of_a_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"chat_template.json' is not JSON .* Download it again\.$"):
        processor_chat_template(str(tmp_path), None)
