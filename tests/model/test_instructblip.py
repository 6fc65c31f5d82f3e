"""InstructBLIP: a Q-Former that also reads the question."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import InstructBlipForConditionalGeneration

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError, OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.load_backbone import load_backbone
from tests.support.checkpoints import Published
from tests.support.modalities import four_modalities, frames_spec, points_spec, wave_spec
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale

Folders = Callable[[Published], Path]
INSTRUCT: tuple[Published, ...] = ("instructblip-flan-t5", "instructblip-vicuna")
SHORT, LONG = "What is it?", "Is the colour of the thing left or right, red or blue?"


def read(model: CremaModel, questions: list[str], **sources: torch.Tensor) -> dict[str, torch.Tensor]:
    features = model.encode(prepare_batch(model, [sources] * len(questions)))
    return {name: own.values for name, own in model.tokens(features, questions).items()}


@pytest.mark.parametrize("kind", INSTRUCT)
def test_a_new_adapter_reads_images_and_question_as_the_published_model_does(
    kind: Published, published: Folders
) -> None:
    model = build([frames_spec("main")], backbone=published(kind))
    pixels = torch.randn(2, 3, 16, 16)
    ours = read(model, [SHORT, LONG], main=pixels)["main"]
    reference = InstructBlipForConditionalGeneration.from_pretrained(published(kind)).eval()
    for row, question in enumerate([SHORT, LONG]):
        ids = model.backbone.qformer.tokenizer([question] * 2, return_tensors="pt")
        theirs = reference.get_image_features(pixels, ids["input_ids"], ids["attention_mask"], return_dict=True)
        assert_close_to_scale(ours[row], theirs.pooler_output, ulps=MODEL_ULPS)


@pytest.mark.parametrize("kind", INSTRUCT)
def test_every_modality_is_read_with_its_own_sample_s_question(kind: Published, published: Folders) -> None:
    model = build(four_modalities(), backbone=published(kind))
    sources = {"main": torch.randn(2, 3, 16, 16), "wave": torch.randn(3, 3, 10), "points": torch.randn(4, 6)}
    together = read(model, [SHORT, LONG], **sources)
    for name in sources:
        alone = [read(model, [question], **{name: sources[name]})[name][0] for question in (SHORT, LONG)]
        assert_close_to_scale(together[name], torch.stack(alone), ulps=MODEL_ULPS)
        assert not torch.allclose(*alone, atol=1e-3), "another question, other tokens"


def test_a_sample_without_the_modality_does_not_shift_the_questions(published: Folders) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=published("instructblip-vicuna"))
    wave = torch.randn(2, 3, 10)
    features = model.encode(prepare_batch(model, [{"main": torch.randn(1, 3, 16, 16)}, {"wave": wave}]))
    second = model.tokens(features, [SHORT, LONG])["wave"].values
    assert_close_to_scale(second, read(model, [LONG], wave=wave)["wave"], ulps=MODEL_ULPS)


def test_queries_alone_are_a_setting_and_do_not_read_the_question(published: Folders) -> None:
    model = build([wave_spec()], backbone=published("instructblip-vicuna"), template={"qformer_input": "queries"})
    wave = torch.randn(2, 3, 10)
    short, long = read(model, [SHORT, LONG], wave=wave)["wave"]
    assert torch.equal(short, long)
    features = model.encode(prepare_batch(model, [{"wave": wave}]))
    assert_close_to_scale(model.modality_tokens("wave", features["wave"]).values[0], short, ulps=MODEL_ULPS)


def test_tokens_without_questions_are_refused(published: Folders) -> None:
    model = build([points_spec()], backbone=published("instructblip-vicuna"))
    features = model.encode(prepare_batch(model, [{"points": torch.randn(4, 6)}]))
    with pytest.raises(OptionsError) as caught:
        model.modality_tokens("points", features["points"])
    assert str(caught.value) == (
        "This backbone's Q-Former reads the question, so tokens of a modality need the questions of the batch. "
        "Accepted: one rendered text per sample. Pass modality_tokens(name, features, questions), or build with "
        "template={'qformer_input': 'queries'}."
    )


def test_a_question_longer_than_the_qformer_s_positions_loses_its_end_there_with_a_warning(published: Folders) -> None:
    model = build([points_spec()], backbone=published("instructblip-vicuna"))
    with pytest.warns(UserWarning) as caught:
        text = model.backbone.qformer.read(["red " * 600])
    assert text.ids.shape == (1, 512)
    assert str(caught[0].message) == (
        "A question has 602 tokens, the Q-Former reads 512: it does not see the rest. The language model does. Shorten "
        "the question, or build with template={'qformer_input': 'queries'}."
    )


def test_lora_and_queries_of_a_modality_get_gradients_through_the_text_reading_qformer(published: Folders) -> None:
    model = build([wave_spec()], backbone=published("instructblip-flan-t5"))
    for parameter in model.trainable_parameters().values():
        parameter.requires_grad_(True)
    features = model.encode(prepare_batch(model, [{"wave": torch.randn(2, 3, 10)}]))
    model.loss(model.tokens(features, [SHORT]), [SHORT], ["red"]).backward()
    for key, parameter in model.adapter_parameters("wave").items():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0 or key.endswith(".A"), key  # B starts at zero, so A moves one step later


@pytest.mark.parametrize("name", ["instructblip-flan-t5-xl", "instructblip-vicuna-7b"])
def test_a_shape_has_the_published_sizes(name: str) -> None:
    backbone = load_backbone(name)
    vision, qformer = (
        sum(parameter.numel() for parameter in part.parameters()) / 1e6
        for part in (backbone.vision_model, backbone.qformer)
    )
    assert round(vision, 1) == 986.0
    assert 185 < qformer < 187, "BLIP-2's 105.1M, a feed-forward for text in each of 12 layers, word embeddings"
    assert backbone.qformer.tokenizer is not None


def test_a_checkpoint_without_the_qformer_s_tokenizer_is_refused(published: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(published("instructblip-vicuna"), tmp_path / "partial")
    shutil.rmtree(folder / "qformer_tokenizer")
    with pytest.raises(CheckpointError) as caught:
        load_backbone(folder)
    text = str(caught.value)
    assert text.startswith(f"The tokenizer of '{folder}/qformer_tokenizer' cannot be read: ")
    assert text.endswith(
        " Accepted: tokenizer.json and tokenizer_config.json as the hub has them. Download or copy the files again."
    )


def test_an_instruction_is_read_in_place_of_every_question(published: Folders) -> None:
    place, wave = published("instructblip-vicuna"), torch.randn(2, 3, 10)
    asked = read(build([wave_spec()], backbone=place), [LONG, LONG], wave=wave)["wave"]
    model = build([wave_spec()], backbone=place, template={"qformer_input": "instruction"})
    assert not model.reads_questions
    nothing = read(model, [SHORT, LONG], wave=wave)["wave"]
    assert torch.equal(nothing[0], nothing[1])
    assert not torch.allclose(nothing, asked, atol=1e-3)
    model = build([wave_spec()], backbone=place, template={"qformer_input": "instruction", "instruction": LONG})
    assert_close_to_scale(read(model, [SHORT, SHORT], wave=wave)["wave"], asked, ulps=MODEL_ULPS)


@pytest.mark.slow
def test_an_instruction_is_refused_where_the_prompt_has_no_place(published: Folders) -> None:
    with pytest.raises(OptionsError, match=r"has no place before the modalities\."):
        build([wave_spec()], backbone=published("instructblip-vicuna"), template={"instruction": "Look."})
    with pytest.raises(OptionsError) as caught:
        build([wave_spec()], backbone=published("blip2-opt"), template={"instruction": "Look."})
    assert str(caught.value) == (
        f"template.instruction='Look.' was given, and the prompt of '{published('blip2-opt')}' has no place before the "
        "modalities. Accepted: an instruction for backbones trained with one (VideoChat2). Leave it out, or write it "
        "into template.open_ended."
    )
