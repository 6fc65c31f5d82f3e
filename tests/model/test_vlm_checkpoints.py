"""Tiny random vision-language models of every kind load by transformers' own classes and use what they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoProcessor

from tests.support.vlm import KINDS, VLMS, auto_class, inputs, media, prompt, save_vlm

# GLM's and ERNIE's processors turn tensors to arrays in a way numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
QUICK = ("gemma3", "qwen3_vl")
ALL = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]
QUESTION = "What is it, é?"


@pytest.mark.parametrize("kind", ALL)
def test_loads_by_the_auto_classes_and_reads_what_it_is_shown(kind: str, tmp_path: Path) -> None:
    save_vlm(tmp_path, kind)
    assert AutoConfig.from_pretrained(tmp_path).model_type == kind
    processor = AutoProcessor.from_pretrained(tmp_path)
    model, report = auto_class(kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for medium in media(kind):
        given = inputs(processor, kind, medium, question=QUESTION)
        tokens = given["input_ids"].shape[1]
        with torch.no_grad():
            logits = model(**given).logits
            others = model(**inputs(processor, kind, medium, question=QUESTION, seed=1)).logits
            answer = model.generate(**given, max_new_tokens=4, do_sample=False)
        assert torch.isfinite(logits).all()
        assert logits.std() > 0.5
        if others.shape == logits.shape:  # two clips may keep different numbers of tokens
            assert (others[:, -1] - logits[:, -1]).abs().max() > 0.05, f"{medium} does not reach the answer"
        assert tokens < 520
        assert tokens < answer.shape[1] <= tokens + 4


@pytest.mark.parametrize("kind", ALL)
def test_tokenizer_and_template_come_back(kind: str, tmp_path: Path) -> None:
    processor: Any = AutoProcessor.from_pretrained(save_vlm(tmp_path, kind))
    vlm, tokenizer = VLMS[kind], processor.tokenizer
    ids = tokenizer(QUESTION)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == QUESTION
    assert (ids[0] == tokenizer.bos_token_id) == vlm.words.opens
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token == vlm.words.pad
    assert (tmp_path / "chat_template.jinja").exists() == (vlm.chat is not None)
    for medium in media(kind):
        mark = {"image": vlm.image, "video": vlm.video, "audio": vlm.audio}[medium]
        assert mark in prompt(processor, kind, medium)
    rows = AutoConfig.from_pretrained(tmp_path).get_text_config().vocab_size
    rows += 8 * (kind == "mllama")  # its embedding has rows the head has not
    assert rows >= len(tokenizer) + 7


@pytest.mark.parametrize("kind", ALL)
def test_traits_are_what_the_processor_does(kind: str, tmp_path: Path) -> None:
    vlm = VLMS[kind]
    processor: Any = AutoProcessor.from_pretrained(save_vlm(tmp_path, kind))
    assert hasattr(processor, "video_processor") == vlm.takes_video
    assert (hasattr(processor, "feature_extractor") or hasattr(processor, "audio_processor")) == vlm.takes_audio
    assert hasattr(processor, "image_processor") == vlm.pictures
    if vlm.pictures:
        wide, tall = (inputs(processor, kind, "image", height=side, width=96 - side) for side in (24, 72))
        pixels = ("pixel_values", "image_pixel_values", "pixel_values_images")
        same = [wide[name].shape == tall[name].shape for name in pixels if name in wide]
        same += [torch.equal(wide[name], tall[name]) for name in wide if name not in pixels]
        assert all(same) == vlm.square


def test_weights_follow_the_seed(tmp_path: Path) -> None:
    weights = [
        load_file(save_vlm(tmp_path / str(index), "qwen3_vl", seed=seed) / "model.safetensors")
        for index, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
