"""CREMA on VideoChat2: its own tokens until trained, adapters of any modality, training, saving."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import crema_core
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.errors import CheckpointError, OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.load_backbone import load_backbone
from crema_core.plugins import registry
from crema_core.train.fit import fit
from crema_videochat2.frames import prepare_pixels
from crema_videochat2.model import VideoChat2
from crema_videochat2.prompts import VIDEO_INSTRUCTION, question_text
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.videochat2 import CHOICES, QUERIES, SIDE, golden, save_videochat2, write_questions
from tests.train.file_modalities import file_modalities

TEMPLATE = {"choice_scoring": "likelihood"}
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with registry.temporary_registrations():
        registry.register(file_modalities()[2])
        yield


def built(folder: Path, *modalities: Any, **settings: Any) -> CremaModel:
    return build(modalities or ("video",), backbone=folder, **{"template": TEMPLATE, **settings})


@pytest.fixture(scope="module")
def model(folder: Path, registered: None) -> CremaModel:
    return built(folder, "video", "wave", "depth", mmqa={"lora_rank": 2})


def clip(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, 40, 30), generator=generator, dtype=torch.uint8)


def tokens(model: CremaModel, *clips: Tensor, name: str = "video") -> Tensor:
    features = model.encode(prepare_batch(model, [{name: own} for own in clips]))
    return model.tokens(features, ["what ?"] * len(clips))[name].values


@torch.no_grad()
def released_tokens(whole: VideoChat2, frames: Tensor) -> Tensor:
    pixels = prepare_pixels(frames, side=SIDE)
    return whole.visual_tokens(pixels[None], *whole.read_instructions([VIDEO_INSTRUCTION]))


@pytest.mark.parametrize("frames", [16, 7, 1])
def test_an_untrained_model_has_the_tokens_of_videochat2(folder: Path, whole: VideoChat2, frames: int) -> None:
    model = built(folder, {"name": "video", "num_frames": frames})
    assert torch.equal(tokens(model, clip(frames))[0], released_tokens(whole, clip(frames)))


def test_an_untrained_model_answers_as_videochat2(folder: Path, whole: VideoChat2) -> None:
    model = built(folder)
    pieces = question_text("what moves ?", system=f"{VIDEO_INSTRUCTION} ")
    theirs = whole.answer(released_tokens(whole, clip(16)), *pieces, max_new_tokens=10)
    assert model.answer("what moves ?", video=clip(16)).text == theirs


def test_the_prompt_is_the_released_one_of_tests(folder: Path, whole: VideoChat2) -> None:
    data, system = golden("generate").tensors, "watch the video and select the best option .\n"
    model = built(folder, template={**TEMPLATE, "instruction": system})
    features = model.encode(prepare_batch(model, [{"video": clip(16)}]))
    made = model.tokens(features, [""])
    question = "what moves ? (A) ball (B) cat"
    prompt = model.prompt(made, [question])
    before = data["before_ids"]
    after = data["after_ids"][:-2]  # without "Best option:("
    wanted = whole.question_prompt(made["video"].values[0, 0], before.tolist(), after.tolist())
    assert torch.equal(prompt.embeds, wanted)


@pytest.mark.slow
def test_position_0_holds_the_constant_of_released_training_in_training_alone(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = built(folder)
    made = model.tokens(model.encode(prepare_batch(model, [{"video": clip(2)}])), [""])
    begin = model.backbone.language_model.get_input_embeddings().weight[1]
    assert torch.equal(model.prompt(made, [""]).embeds[0, 0], begin)
    trained = model.train().prompt(made, [""]).embeds[0]
    assert torch.equal(trained[0], torch.ones_like(begin))
    assert torch.equal(model.eval().prompt(made, [""]).embeds[0, 0], begin)
    plain = save_videochat2(tmp_path_factory.mktemp("plain"), training_begin="embedding")
    other = built(plain).train()
    assert torch.equal(other.prompt(made, [""]).embeds[0, 0], begin)


def test_the_instruction_is_read_and_the_question_is_not(folder: Path, model: CremaModel) -> None:
    features = model.encode(prepare_batch(model, [{"video": clip(3)}]))
    here = [model.tokens(features, [question])["video"].values for question in ("what ?", "and then ?")]
    assert torch.equal(*here)
    assert not model.reads_questions
    asked = built(folder, template={**TEMPLATE, "qformer_input": "question"})
    assert asked.reads_questions
    there = [asked.tokens(features, [question])["video"].values for question in ("watch", "look closely .")]
    assert not torch.allclose(*there)
    other = built(folder, template={**TEMPLATE, "instruction": "look closely ."})
    assert not torch.allclose(other.tokens(features, [""])["video"].values, here[0])


def test_questions_the_qformer_reads_do_not_depend_on_the_batch(folder: Path) -> None:
    model = built(folder, template={**TEMPLATE, "qformer_input": "question"})
    features = model.encode(prepare_batch(model, [{"video": clip(3)}] * 2))
    asked = ["watch", "watch the video and answer the question ."]
    together = model.tokens(features, asked)["video"].values
    one = model.encode(prepare_batch(model, [{"video": clip(3)}]))
    alone = torch.cat([model.tokens(one, [question])["video"].values for question in asked])
    assert_close_to_scale(together, alone, ulps=MODEL_ULPS)


def test_a_modality_may_have_the_first_queries_alone(folder: Path, whole: VideoChat2) -> None:
    model = built(folder, mmqa={"num_queries": 5})
    assert torch.equal(model.branch("video").adapter.queries, whole.trunk.query_tokens)
    assert tokens(model, clip(2)).shape == (1, 1, 5, 40)


def test_every_modality_starts_from_parts_of_videochat2(model: CremaModel, whole: VideoChat2) -> None:
    trunk = whole.trunk
    for name in ("video", "depth"):
        adapter = model.branch(name).adapter
        assert not list(adapter.projection.parameters()), "as wide as the Q-Former reads"
        assert torch.equal(adapter.norm.weight, trunk.vision_model.post_layernorm.weight)
    wave = model.branch("wave").adapter
    assert wave.projection.weight.shape == (36, model.branch("wave").modality.feature_dim)
    for name in model.names:
        adapter = model.branch(name).adapter
        assert adapter.norm.eps == 1e-12
        assert torch.equal(adapter.queries, trunk.queries)
        assert torch.equal(adapter.output.weight, trunk.language_projection.weight)
        places = {key.rpartition(".")[0] for key in adapter.lora()}
        assert places == {f"{layer}.{part}" for layer in range(4) for part in ("query", "value")}


def test_fused_tokens_follow_the_video_s_and_are_as_many(model: CremaModel, tmp_path: Path) -> None:
    np.save(tmp_path / "wave.npy", torch.randn(4, 3, 10).numpy())
    sources = {"video": clip(16), "wave": tmp_path / "wave.npy", "depth": torch.rand(3, 20, 20) + 1}
    features = model.encode(prepare_batch(model, [sources]))
    alone = model.encode(prepare_batch(model, [{"video": sources["video"]}]))
    with_sides = model.prompt(model.tokens(features, [""]), [""]).mask.sum()
    without = model.prompt(model.tokens(alone, [""]), [""]).mask.sum()
    assert int(with_sides - without) == QUERIES


def test_clips_of_any_length_are_answered_alike_alone_and_together(model: CremaModel) -> None:
    items: list[dict[str, Any]] = [
        {"question": "what moves ?", "video": clip(20)},
        {"question": "what ?", "video": clip(1), "depth": torch.rand(5, 20, 20) + 1},
        {"question": "and then ?", "depth": torch.rand(1, 20, 20) + 1},
    ]
    asked = [{**item, "choices": CHOICES} for item in items]
    together = model.answer_many(asked)
    alone = [model.answer(**item) for item in asked]
    scores = [torch.tensor([list(answer.scores.values()) for answer in answers]) for answers in (together, alone)]
    assert_close_to_scale(*scores, ulps=MODEL_ULPS)


def trained(
    folder: Path, tmp_path: Path, *, epochs: int, **settings: Any
) -> tuple[CremaModel, list[dict[str, Any]], list[str]]:
    """Return a model trained on clips and waves, its questions, and their answers."""
    data = write_questions(tmp_path / "data")
    model = built(folder, {"name": "video", "num_frames": 3}, "wave", mmqa={"lora_rank": 2, "lora_dropout": 0.0})
    before, frozen = model.adapter_state_dict(), model.frozen_fingerprint()
    quiet = StatusLine(io.StringIO(), enabled=False)
    fit(model, data, out=tmp_path / "run", status=quiet, epochs=epochs, batch_size=6, lr=0.01, **settings)
    after = model.adapter_state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert {key for key in after if key.startswith(("modalities.wave.mmqa.", "fusion."))} <= moved
    assert model.frozen_fingerprint() == frozen
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    items = [
        {"question": line["question"], "choices": CHOICES, "wave": data.parent / line["wave"]}
        | {"video": [data.parent / name for name in line["video"]]}
        for line in lines
    ]
    return model, items, [line["answer"] for line in lines]


@pytest.mark.slow
def test_training_moves_the_adapters_alone_and_is_saved(folder: Path, tmp_path: Path) -> None:
    model, items, _ = trained(folder, tmp_path, epochs=1, mode="joint")
    model.save_pretrained(tmp_path / "saved")
    loaded = crema_core.load(tmp_path / "saved")
    assert loaded.branch("video").modality.options == model.branch("video").modality.options
    assert loaded.template == model.template
    found, wanted = ([answer.scores for answer in one.answer_many(items)] for one in (loaded, model))
    assert found == wanted


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["joint", "sequential"])
def test_a_modality_is_learned(folder: Path, tmp_path: Path, mode: str) -> None:
    model, items, answers = trained(folder, tmp_path, epochs=25, mode=mode)
    assert [answer.text for answer in model.answer_many(items)] == answers


def test_a_lora_is_trained_beside_the_checkpoint_s_own(folder: Path) -> None:
    plain, tuned = built(folder), built(folder, tuning=LORA)
    asked = {"question": "what moves ?", "choices": CHOICES, "video": clip(4)}
    assert tuned.answer(**asked).scores == plain.answer(**asked).scores
    parameters = tuned.language_parameters()
    assert len(parameters) == 2 * 2 * 7
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.3)
    assert tuned.answer(**asked).scores != plain.answer(**asked).scores


def test_another_lora_of_the_checkpoint_is_another_backbone(folder: Path) -> None:
    first, other = load_backbone(folder), load_backbone(folder)
    assert (other.identity(), first.fingerprint()) == (first.identity(), other.fingerprint())
    changed = load_backbone(folder)
    with torch.no_grad():
        changed.language_model.get_parameter("lm_head.lora_B.videochat2.weight").mul_(2)
    assert changed.identity() != first.identity()
    assert changed.fingerprint() != first.fingerprint()


def test_half_precision_keeps_what_it_must(folder: Path) -> None:
    model = built(folder, precision="bf16")
    backbone: Any = model.backbone
    assert backbone.dtype == torch.bfloat16
    assert backbone.vision_model.encoder.layers[0].mlp.fc1.weight.dtype == torch.bfloat16
    assert model.branch("video").adapter.norm.weight.dtype == torch.float32
    exact = built(folder)
    assert torch.equal(model.branch("video").adapter.norm.weight, exact.branch("video").adapter.norm.weight)
    assert model.answer("what moves ?", CHOICES, video=clip(4)).scores.keys() == set(CHOICES)


def test_pictures_of_other_sizes_follow_the_rule_of_positions(folder: Path) -> None:
    model = built(folder, image_size=40)
    features = model.encode(prepare_batch(model, [{"video": clip(2)}]))["video"].features
    assert features.values.shape == (1, 1, 16 * 25, 36)
    assert model.config["backbone"]["image_size"] == 40
    with pytest.raises(OptionsError) as caught:
        built(folder, image_size=42)
    assert str(caught.value) == (
        "image_size=42 is no whole number of this vision encoder's patches of 8 pixels. Accepted: multiples of 8. Use "
        "image_size=40, or leave it out for 24."
    )


def test_another_language_model_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"were trained together.*Leave language_model out"):
        built(folder, language_model=str(folder.parent / "mistral"))


def test_an_instruction_has_no_place_in_other_prompts() -> None:
    with pytest.raises(OptionsError, match=r"no place before the modalities.*Leave it out"):
        build(["video"], template={"instruction": "Look."})
