"""PAVE on Qwen-VL from `build` to saved folders, and what its backbone refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError, CremaError, OptionsError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.load_backbone import load_backbone
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins import registry
from crema_core.report.plan import plan
from tests.support.modalities import points_spec, wave_spec
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.official_datasets import write_clip
from tests.support.pave_models import CHOICES, randomized, scores_of, side_example
from tests.support.qwen_vl import FUSION, built, clip
from tests.support.video_language import QWEN_KINDS, QWEN_SIDE, VideoKind

Folders = Callable[[VideoKind], Path]
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


@pytest.fixture(autouse=True)
def registered() -> None:
    for spec in (wave_spec(), points_spec()):
        registry.register(spec)


def example(name: str, seed: int) -> Tensor:
    if name == "video":
        return clip(4, seed)
    return side_example(name, seed)


def scores(model: CremaModel, *names: str, seed: int = 0) -> list[float]:
    return scores_of(model, {name: example(name, seed) for name in names})


@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_a_fresh_patch_leaves_answers_bit_identical(video_models: Folders, kind: VideoKind) -> None:
    model = built(video_models(kind))
    plain = scores(model, "video")
    model.add_modality("wave")
    assert scores(model, "video", "wave") == plain
    randomized(model)
    assert scores(model, "video", "wave") != plain
    assert scores(model, "video") == plain


@pytest.fixture(scope="module")
def mixed(video_models: Folders, tmp_path_factory: pytest.TempPathFactory) -> tuple[CremaModel, list[dict[str, Any]]]:
    """A model and questions about clips with a clock, without one, of other lengths, pictures, and no clip at all."""
    model = randomized(built(video_models("qwen2.5-vl"), wave_spec(), num_frames=5))
    file = str(write_clip(tmp_path_factory.mktemp("clip") / "a.mp4"))
    sources: list[dict[str, Any]] = [
        {"video": clip(4)},
        {"video": clip(1)},
        {"video": file},
        {"video": f"{file}#t=0.5,1.5", "wave": example("wave", 1)},
        {"video": clip(7), "wave": example("wave", 2)},
        {"wave": example("wave", 3)},
    ]
    questions = ["what ?", "Is it left or right , red or blue ?", "What colour is the dog ?"]
    return model, [{"question": questions[row % 3], **own} for row, own in enumerate(sources)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 5), min_size=2, max_size=5))
@pytest.mark.filterwarnings("ignore:A sample has wave and no video")
def test_answers_do_not_depend_on_the_batch(mixed: tuple[CremaModel, list[dict[str, Any]]], rows: list[int]) -> None:
    model, items = mixed
    asked = [{**items[row], "choices": CHOICES} for row in rows]
    together = [list(answer.scores.values()) for answer in model.answer_many(asked)]
    alone = [list(model.answer(**item).scores.values()) for item in asked]
    assert_close_to_scale(torch.tensor(together), torch.tensor(alone), ulps=MODEL_ULPS)
    spoken = model.answer_many([items[row] for row in rows])
    assert [answer.text for answer in spoken] == [model.answer_many([items[row]])[0].text for row in rows]


def test_steps_of_a_clip_have_the_span_of_their_frames(video_models: Folders, tmp_path: Path) -> None:
    file = str(write_clip(tmp_path / "a.mp4"))
    single = built(video_models("llava-onevision"), num_frames=5, fusion="pave", image_size=None)
    frames = prepare_batch(single, [{"video": file}])["video"].batch.times
    model = built(video_models("qwen2.5-vl"), num_frames=5)
    steps = prepare_batch(model, [{"video": file}])["video"].batch
    assert frames is not None
    assert steps.times is not None
    assert steps["frames"].shape == (1, 3, 2, 3, QWEN_SIDE, QWEN_SIDE)
    assert steps.times[0, :, 0].tolist() == frames[0, ::2, 0].tolist()
    assert steps.times[0, :, 1].tolist() == frames[0, [1, 3, 4], 1].tolist()
    assert torch.equal(steps["frames"][0, 2, 0], steps["frames"][0, 2, 1]), "the last frame is repeated"


@pytest.mark.parametrize("kind", QWEN_KINDS)
def test_training_saving_and_loading_work(video_models: Folders, tmp_path: Path, kind: VideoKind) -> None:
    model = built(video_models(kind), "wave", tuning=LORA)
    parameters, frozen = model.trainable_parameters(), model.backbone.identity()
    set_trainable(model, names_of(model, parameters.values()))
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.02)
    batches = prepare_batch(model, [{name: example(name, row) for name in ("video", "wave")} for row in range(2)])
    features, questions, losses = model.encode(batches), ["what colour ?", "what ?"], []
    model.train()
    for _ in range(6):
        loss = model.loss(model.tokens(features, questions), questions, CHOICES)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    assert losses[-1] < losses[0]
    assert all(bool(value.any()) for key, value in parameters.items() if key.endswith((".B", "norm.weight")))
    model.backbone._identity = None  # computed anew
    assert model.backbone.identity() == frozen
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.backbone.image_size == QWEN_SIDE
    assert scores(again, "video", "wave") == scores(model, "video", "wave")


def test_lora_reaches_every_linear_layer_of_the_language_model_alone(video_models: Folders) -> None:
    model = built(video_models("qwen2.5-vl"), tuning=LORA)
    ends = {key.split(".")[-2] for key in model.language_parameters()}
    assert ends == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(model.language_parameters()) == 2 * 2 * 7
    few = built(video_models("qwen2.5-vl"), tuning={**LORA, "targets": ["q_proj", "v_proj"]})
    assert {key.split(".")[-2] for key in few.language_parameters()} == {"q_proj", "v_proj"}


def test_description_and_plan_count_the_encoder_and_its_merger(video_models: Folders) -> None:
    model = built(video_models("qwen2.5-vl"), "wave")
    row = {component.name: component for component in model.describe().components}
    backbone: Any = model.backbone
    assert row["vision encoder"].frozen == sum(one.numel() for one in backbone.vision_model.parameters())
    assert row["video"].frozen == sum(one.numel() for one in backbone.projector.parameters())
    assert row["video"].gflops == pytest.approx(2 * 2 * 9 * (64 * 64 + 64 * 32) / 1e9)
    assert plan(model, batch_size=2).rows["features of encoders"] >= 2 * 4 * 2 * 36 * 16


def refusal(error: type[CremaError], **settings: Any) -> str:
    with pytest.raises(error) as caught:
        build([{"name": "video", "num_frames": 2}], **{"fusion": FUSION, **settings})
    return str(caught.value)


def test_an_image_size_that_is_no_whole_number_of_tokens_is_refused(video_models: Folders) -> None:
    assert refusal(OptionsError, backbone=video_models("qwen2.5-vl"), image_size=30) == (
        "image_size=30 is no whole number of this backbone's visual tokens, each 8 pixels wide (2 patches of 4). "
        "Accepted: multiples of 8. Use image_size=32, or leave it out for 96."
    )


def test_an_image_size_is_refused_by_a_backbone_of_one_size(video_models: Folders, t5_folder: Path) -> None:
    for folder, own in ((video_models("llava-onevision"), 20), (t5_folder, 16)):
        assert refusal(OptionsError, backbone=folder, image_size=48) == (
            f"image_size=48 was given, and '{folder}' was trained on pictures of {own} pixels and takes no others. "
            "Accepted: another size for Qwen-VL backbones alone. Leave image_size out."
        )


def test_an_image_size_is_refused_beside_a_backbone_object(video_models: Folders) -> None:
    backbone = load_backbone(video_models("qwen2.5-vl"), image_size=16)
    assert refusal(BuildError, backbone=backbone, image_size=24) == (
        "image_size=24 needs a backbone that is loaded here and sees pictures. Accepted with it: a folder or hub id of "
        "a Qwen-VL model as backbone. Pass load_backbone(..., image_size=...), or leave it out."
    )


def test_newlines_are_refused_where_the_model_has_none(video_models: Folders) -> None:
    fusion = {"name": "pave", "newlines": "grid"}
    assert refusal(OptionsError, backbone=video_models("qwen2.5-vl"), image_size=16, fusion=fusion) == (
        "newlines='grid' came, and this backbone has no newline token. Accepted: 'none'. Leave newlines out."
    )
