"""Qwen2-VL and Qwen2.5-VL as backbones say exactly what transformers says with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from crema_core.tokens import ModalityTokens
from crema_pave.connectors import BEFORE_PROJECTOR
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.qwen_vl import CLASSES, built, clip, their_inputs
from tests.support.video_language import QWEN_KINDS, VideoKind

Folders = Callable[[VideoKind], Path]
QUESTIONS = ["What colour is the dog ?", "Is it left or right , red or blue ?", "What ?"]


def tokens_of(
    model: CremaModel, clips: list[Tensor | None], *, step_seconds: list[float] | None = None
) -> dict[str, ModalityTokens]:
    """Encode the clips that are there; with seconds, as if from a file whose steps last so long."""
    items = [{} if frames is None else {"video": frames} for frames in clips]
    tokens = model.tokens(model.encode(prepare_batch(model, items)), [""] * len(clips))
    if step_seconds is not None:
        own = tokens["video"]
        edges = torch.arange(own.mask.shape[1] + 1) * torch.tensor(step_seconds)[:, None] + 0.4
        tokens["video"] = own._replace(times=torch.stack([edges[:, :-1], edges[:, 1:]], dim=-1).float())
    return tokens


@pytest.mark.parametrize("num_frames", [1, 4, 5])
@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_visual_tokens_are_those_of_transformers(video_models: Folders, kind: VideoKind, num_frames: int) -> None:
    model = built(video_models(kind), num_frames=num_frames)
    theirs = CLASSES[kind].from_pretrained(video_models(kind)).eval()
    inputs = their_inputs(model, [clip(num_frames)], QUESTIONS[:1])
    grid = inputs["video_grid_thw"]
    assert grid.tolist() == [[(num_frames + 1) // 2, 6, 6]]
    with torch.no_grad():
        wanted = theirs.model.get_video_features(inputs["pixel_values_videos"], grid).pooler_output[0]
    own = tokens_of(model, [clip(num_frames)])["video"]
    assert own.values.shape == ((1, (num_frames + 1) // 2, 9, 32))
    torch.testing.assert_close(own.values.flatten(0, 2), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_inner_tokens_are_means_of_the_patches_a_token_is_joined_from(video_models: Folders, kind: VideoKind) -> None:
    model = built(video_models(kind))
    theirs = CLASSES[kind].from_pretrained(video_models(kind)).eval()
    seen: list[Tensor] = []
    theirs.model.visual.merger.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    inputs = their_inputs(model, [clip()], QUESTIONS[:1])
    inner = tokens_of(model, [clip()])["video"].extras[BEFORE_PROJECTOR]
    with torch.no_grad():
        theirs.model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])
    means = seen[0].unflatten(0, (-1, 4)).mean(1)  # in the order of windows, where the vision encoder has any
    near = torch.cdist(means, inner.flatten(0, 2)).min(1)
    assert sorted(near.indices.tolist()) == list(range(18))
    assert float(near.values.max()) < 1e-4


def test_a_picture_is_a_step_of_the_picture_twice(video_models: Folders) -> None:
    model = built(video_models("qwen2.5-vl"))
    frame = model.branch("video").modality.context.normalize(clip(1).float() / 255)
    alone = model.backbone.encode_images(frame)
    assert torch.equal(alone, model.backbone.encode_images(torch.stack([frame, frame], dim=1)))
    assert alone.shape == (1, 36, 16)


@pytest.mark.parametrize("step_seconds", [None, [0.5], [1.0], [3.0]])
@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_logits_are_those_of_transformers(
    video_models: Folders, kind: VideoKind, step_seconds: list[float] | None
) -> None:
    model = built(video_models(kind), num_frames=5)
    theirs = CLASSES[kind].from_pretrained(video_models(kind)).eval()
    answer = model.language.chat_format.answer_ids("red dog")
    inputs = their_inputs(model, [clip(5)], QUESTIONS[:1], answer=answer, step_seconds=step_seconds)
    with torch.no_grad():
        wanted = theirs(**inputs).logits[:, -len(answer) - 1 : -1]
        prompt = model.prompt(tokens_of(model, [clip(5)], step_seconds=step_seconds), QUESTIONS[:1])
        own = model.language.logits(prompt, torch.tensor([answer]))
        assert_close_to_scale(own, wanted, ulps=MODEL_ULPS)
        counted = model.language.logits(prompt._replace(positions=None), torch.tensor([answer]))
    assert float((counted - own).abs().max()) > 1e-2, "positions are read"


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_generated_answers_of_a_batch_are_those_of_transformers(
    video_models: Folders, kind: VideoKind, num_beams: int
) -> None:
    model = built(video_models(kind))
    theirs = CLASSES[kind].from_pretrained(video_models(kind)).eval()
    clips: list[Tensor | None] = [clip(4, 1), clip(4, 2), clip(4, 3)]
    seconds = [0.5, 2.0, 1.0]
    inputs = their_inputs(model, clips, QUESTIONS, step_seconds=seconds)
    given = {"max_new_tokens": 6, "do_sample": False, "num_beams": num_beams}
    ids = theirs.generate(**inputs, **given)[:, inputs["input_ids"].shape[1] :]
    wanted = [text.strip() for text in model.language.tokenizer.batch_decode(ids, skip_special_tokens=True)]
    tokens = tokens_of(model, clips, step_seconds=seconds)
    assert model.generate(model.prompt(tokens, QUESTIONS), max_new_tokens=6, num_beams=num_beams) == wanted


@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_scores_of_choices_are_those_of_transformers(video_models: Folders, kind: VideoKind) -> None:
    model = built(video_models(kind), template={"choice_scoring": "likelihood"})
    theirs = CLASSES[kind].from_pretrained(video_models(kind)).eval()
    choices = ["red", "blue dog", "no"]
    wanted = []
    for text in choices:
        answer = [*model.language.chat_format.answer_ids(text), model.language.chat_format.end]
        inputs = their_inputs(model, [clip()], QUESTIONS[:1], answer=answer)
        with torch.no_grad():
            logprobs = theirs(**inputs).logits[0, -len(answer) - 1 : -1].log_softmax(-1)
        wanted.append(float(logprobs.gather(1, torch.tensor(answer)[:, None]).mean()))
    found = model.score_choices(model.prompt(tokens_of(model, [clip()]), QUESTIONS[:1]), [choices])[0]
    assert_close_to_scale(torch.tensor(found), torch.tensor(wanted), ulps=MODEL_ULPS)


@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_prompts_with_and_without_clips_in_one_batch_are_those_of_transformers(
    video_models: Folders, kind: VideoKind
) -> None:
    model = built(video_models(kind))
    theirs = CLASSES[kind].from_pretrained(video_models(kind)).eval()
    clips: list[Tensor | None] = [None, clip(4, 1), None]
    inputs: dict[str, Any] = their_inputs(model, clips, QUESTIONS)
    prompt = model.prompt(tokens_of(model, clips), QUESTIONS)
    assert torch.equal(prompt.mask, inputs["attention_mask"].bool())
    own, _ = theirs.model.get_rope_index(**inputs)
    assert prompt.positions is not None
    assert torch.equal(prompt.positions.permute(2, 0, 1), own)
    with torch.no_grad():
        wanted = theirs(**inputs).logits[:, -1]
        answer = torch.zeros(3, 1, dtype=torch.int64)
        assert_close_to_scale(model.language.logits(prompt, answer)[:, 0], wanted, ulps=MODEL_ULPS)
        alone = their_inputs(model, [None], QUESTIONS[:1])
        assert_close_to_scale(theirs(**alone).logits[:, -1], wanted[:1], ulps=MODEL_ULPS)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_the_flat_configuration_of_published_checkpoints_gives_the_same_model(
    video_models: Folders, tmp_path: Path, kind: VideoKind, tied: bool
) -> None:
    folder = shutil.copytree(video_models(kind), tmp_path / "flat")
    config = json.loads((folder / "config.json").read_text())
    text, vision = config.pop("text_config"), config.pop("vision_config")
    rotary = text.pop("rope_parameters")
    kept = {key: value for key, value in text.items() if key not in ("model_type", "layer_types")}
    config |= kept | {"tie_word_embeddings": tied, "rope_theta": rotary["rope_theta"]}
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rotary["mrope_section"]}
    vision.pop("rope_parameters", None)
    config["vision_config"] = {**vision, "model_type": config["model_type"]}
    (folder / "config.json").write_text(json.dumps(config))
    if tied:  # the file has one of the two
        weights = load_file(folder / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model, plain = built(folder), built(video_models(kind))
    assert model.backbone.axes == plain.backbone.axes
    language: Any = model.backbone.language_model
    assert (language.lm_head.weight is language.model.embed_tokens.weight) == tied
    item = {"question": QUESTIONS[0], "video": clip()}
    if tied:
        theirs = CLASSES[kind].from_pretrained(folder).eval()
        inputs = their_inputs(model, [clip()], QUESTIONS[:1])
        ids = theirs.generate(**inputs, max_new_tokens=10, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        wanted = model.language.tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
        assert model.answer_many([item])[0].text == wanted
    else:
        assert model.answer_many([item]) == plain.answer_many([item])
