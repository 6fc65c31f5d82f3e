"""crema-tiny as it is shipped: small, loads like any BLIP-2, sees what RGB shows and nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from crema_core.model.shipped import tiny_backbone_path
from crema_world.backbone import IMAGE_MEAN, IMAGE_STD
from crema_world.caption_stage import encode_pictures, query_pictures
from crema_world.generate import draw_scenes
from crema_world.questions import CHOICES_OF_TYPE, MODALITY_OF_TYPE, questions_of
from crema_world.render import render_frames
from crema_world.scene import Scene
from crema_world.vocabulary import words

NUM_FRAMES = 2


@pytest.fixture(scope="module")
def tiny() -> Blip2ForConditionalGeneration:
    return Blip2ForConditionalGeneration.from_pretrained(tiny_backbone_path()).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_backbone_path())


@pytest.fixture(scope="module")
def held_out() -> list[Scene]:
    return draw_scenes(num_clips=64, seed=11, split="test")


@torch.no_grad()
def answers(
    model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, scenes: list[Scene], kind: str
) -> list[str]:
    """Greedy first words, prompted as the core does: "Frame i: " and the frame's tokens, then the question."""
    embedding = model.language_model.get_input_embeddings()
    said = []
    for scene in scenes:
        (question,) = (question for question in questions_of(scene) if question.type == kind)
        frames = render_frames(scene)[[4, 12]]
        tokens = query_pictures(model, encode_pictures(model, frames).float())
        parts = []
        for index in range(NUM_FRAMES):
            prefix = tokenizer(f"Frame {index + 1}: ", add_special_tokens=False, return_tensors="pt").input_ids
            parts += [embedding(prefix)[0], tokens[index]]
        parts.append(embedding(tokenizer(question.text, return_tensors="pt").input_ids)[0])
        prompt = torch.cat(parts)[None]
        ids = model.language_model.generate(inputs_embeds=prompt, max_new_tokens=3, do_sample=False)
        said.append(tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    return said


def test_it_is_smaller_than_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in tiny_backbone_path().iterdir()) < 10e6


def test_it_loads_without_missing_or_unexpected_weights() -> None:
    _, found = Blip2ForConditionalGeneration.from_pretrained(tiny_backbone_path(), output_loading_info=True)
    assert {name: list(keys) for name, keys in found.items() if keys} == {}


def test_its_image_processor_has_the_size_and_normalisation_it_was_trained_with() -> None:
    processor = AutoImageProcessor.from_pretrained(tiny_backbone_path())
    assert dict(processor.size) == {"height": 64, "width": 64}
    assert tuple(processor.image_mean) == IMAGE_MEAN
    assert tuple(processor.image_std) == IMAGE_STD


def test_the_tokenizer_knows_every_word_of_the_world(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert len(tokenizer) == len(words())
    scenes = draw_scenes(num_clips=50, seed=0, split="valid")
    texts = [question.text for scene in scenes for question in questions_of(scene)]
    texts += [choice for choices in CHOICES_OF_TYPE.values() for choice in choices]
    texts += ["Frame 12: ", "Depth Map 3: ", "Optical Flow 1: ", "Surface Normals 1: "]
    texts += ["Audio: ", "3D Model: ", "Touch: ", "Thermal: "]
    for text in texts:
        assert 2 not in tokenizer(text).input_ids, text
    assert tokenizer("What color?").input_ids[-1] == 1
    assert tokenizer.tokenize("Frame 12:") == ["frame", "1", "2", ":"]


@pytest.mark.parametrize("kind", ["color", "shape"])
def test_it_answers_what_rgb_shows_on_held_out_scenes(
    kind: str, tiny: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, held_out: list[Scene]
) -> None:
    said = answers(tiny, tokenizer, held_out, kind)
    right = sum(word == str(getattr(scene.answers, kind)) for word, scene in zip(said, held_out, strict=True))
    assert right / len(held_out) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if modality == "audio" else pytest.mark.slow)
        for kind, modality in MODALITY_OF_TYPE.items()
        if modality != "video"
    ],
)
def test_without_its_modality_a_question_is_answered_by_chance(
    kind: str, tiny: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, held_out: list[Scene]
) -> None:
    said = answers(tiny, tokenizer, held_out, kind)
    right = sum(word == str(getattr(scene.answers, kind)) for word, scene in zip(said, held_out, strict=True))
    assert right / len(held_out) < 1 / len(CHOICES_OF_TYPE[kind]) + 0.2
