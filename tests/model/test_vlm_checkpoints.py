"""Tiny random vision-language models of every kind load by transformers' own classes and use what they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoProcessor

from tests.support.vlm import KINDS, VLMS, auto_class, clip, clip_metadata, picture, save_vlm, sound

# GLM's and ERNIE's processors turn tensors to arrays in a way numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
QUICK = ("gemma3", "qwen3_vl")
ALL = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]
QUESTION = "What is it, é?"
MEDIA = ("image", "video", "audio")


def _prompt(processor: Any, kind: str, medium: str | None) -> str:
    vlm = VLMS[kind]
    if vlm.chat is None:
        return {"image": vlm.image, "video": vlm.video, "audio": vlm.audio, None: ""}[medium] + QUESTION
    content = [{"type": "text", "text": QUESTION}]
    if medium is not None:
        content.insert(0, {"type": medium})
    turn = {"role": "user", "content": content}
    return str(processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False))


def _inputs(processor: Any, kind: str, medium: str, *, seed: int = 0) -> dict[str, Any]:
    vlm = VLMS[kind]
    given: dict[str, Any] = {"text": [_prompt(processor, kind, medium)], "return_tensors": "pt", "padding": True}
    if medium == "image":
        given["images"] = [picture(seed=seed)]
    elif medium == "video":
        given |= {"videos": [clip(seed=seed)], "video_metadata": [clip_metadata()], "do_sample_frames": False}
    else:
        given[vlm.audio_keyword] = [sound(sample_rate_hz=vlm.audio_rate_hz, seed=seed)]
    return {name: value for name, value in processor(**given).items() if name != "labels"}


def _media(kind: str) -> list[str]:
    vlm = VLMS[kind]
    taken = (vlm.pictures, vlm.takes_video, vlm.takes_audio)
    return [medium for medium, takes in zip(MEDIA, taken, strict=True) if takes]


@pytest.mark.parametrize("kind", ALL)
def test_loads_by_the_auto_classes_and_reads_what_it_is_shown(kind: str, tmp_path: Path) -> None:
    save_vlm(tmp_path, kind)
    assert AutoConfig.from_pretrained(tmp_path).model_type == kind
    processor = AutoProcessor.from_pretrained(tmp_path)
    model, report = auto_class(kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for medium in _media(kind):
        inputs = _inputs(processor, kind, medium)
        tokens = inputs["input_ids"].shape[1]
        with torch.no_grad():
            logits = model(**inputs).logits
            others = model(**_inputs(processor, kind, medium, seed=1)).logits
            answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        assert torch.isfinite(logits).all()
        assert logits.std() > 0.5
        if others.shape == logits.shape:  # two clips may keep different numbers of tokens
            assert (others[:, -1] - logits[:, -1]).abs().max() > 0.05, f"{medium} does not reach the answer"
        assert tokens < 400
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
    for medium in _media(kind):
        mark = {"image": vlm.image, "video": vlm.video, "audio": vlm.audio}[medium]
        assert mark in _prompt(processor, kind, medium)
    rows = AutoConfig.from_pretrained(tmp_path).get_text_config().vocab_size
    assert rows >= len(tokenizer) + 8


def test_weights_follow_the_seed(tmp_path: Path) -> None:
    weights = [
        load_file(save_vlm(tmp_path / str(index), "qwen3_vl", seed=seed) / "model.safetensors")
        for index, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
