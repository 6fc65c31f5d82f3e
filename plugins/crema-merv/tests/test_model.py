"""Several encoders mixed in front of the language model, alone and beside other modalities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import crema_core
from crema_core.api.build import build
from crema_core.api.describe import cost_of, describe_model
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.strategies import ConcatFusion, SelfGatedFusion
from crema_core.modality import FeaturePart, Features
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins import registry
from crema_core.tokens import ModalityFeatures
from crema_core.train.distributed import Distributed
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import Stepper
from crema_merv.connector import WEIGHTS, EncodersConnector, step_times
from crema_merv.layout import pack, unpack
from crema_merv.merv import Merv
from tests.support.checkpoints import Language
from tests.support.modalities import points_spec, wave_spec
from tests.support.numeric import assert_close_to_scale

Encoders = list[dict[str, str]]
LAYOUT = (FeaturePart("pictures", 4, 3, 2, 5), FeaturePart("clips", 2, 2, 2, 7))
FUSION = {"name": "merv", "token_grid": (2, 2)}
VIDEO = {"name": "video", "num_frames": 4}
CLIP = torch.rand(6, 3, 20, 30, generator=torch.Generator().manual_seed(0))
WAVE = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(1))


def alone(encoders: Encoders, folder: Path, **changes: Any) -> CremaModel:
    return build([VIDEO], encoders=encoders, language_model=folder, **{"fusion": FUSION, **changes})


def scores(model: CremaModel, **sources: Any) -> dict[str, float]:
    found: dict[str, float] = model.answer("what color ?", ["red", "blue"], **sources).scores
    return found


def features(count: int, layout: tuple[FeaturePart, ...] = LAYOUT, *, times: bool = True) -> ModalityFeatures:
    generator = torch.Generator().manual_seed(count)
    values = pack([torch.randn(count, *encoder.shape, generator=generator) for encoder in layout])
    spans = torch.tensor([[1.0, 9.0]]).expand(count, 1, 2) if times else None
    return ModalityFeatures(Features(values, torch.ones(count, 1, dtype=torch.bool), spans), torch.arange(count))


def test_tokens_are_those_of_projectors_and_mixer_with_the_time_of_every_step() -> None:
    connector = EncodersConnector(LAYOUT, width=6, token_grid=(2, 2))
    own = features(3)
    tokens = connector(own)
    mixed = connector.merv(unpack(own.features.values, LAYOUT))
    assert torch.equal(tokens.values, mixed.values)
    assert tokens.values.shape == (3, 4, 4, 6)
    assert connector.num_tokens == 4
    torch.testing.assert_close(tokens.extras[WEIGHTS].sum(1), torch.ones(3))
    assert tokens.times is not None
    assert tokens.times[0].tolist() == [[1.0, 3.0], [3.0, 5.0], [5.0, 7.0], [7.0, 9.0]]
    assert connector(features(2, times=False)).times is None


def test_concatenated_encoders_each_have_the_steps_of_the_whole_clip() -> None:
    connector = EncodersConnector(LAYOUT, width=6, token_grid=(2, 2), mixer="concat")
    tokens = connector(features(1))
    assert tokens.values.shape == (1, 8, 4, 6)
    assert tokens.extras == {}
    assert tokens.times is not None
    assert tokens.times[0, :, 0].tolist() == [1.0, 3.0, 5.0, 7.0] * 2


def test_everything_trained_is_named_after_the_encoders() -> None:
    connector = EncodersConnector(LAYOUT, width=6)
    assert list(connector.trained()) == [
        "encoders.projectors.0.map.weight",
        "encoders.projectors.0.map.bias",
        "encoders.projectors.1.map.weight",
        "encoders.projectors.1.map.bias",
        "encoders.mixer.query",
    ]
    assert connector.lora() == {}
    assert [type(part) for part in connector.counted()] == [Merv]


@settings(max_examples=30, deadline=None)
@given(start=st.floats(0, 100), length=st.floats(0.1, 100), num_steps=st.integers(1, 40))
def test_steps_are_equal_parts_without_gaps(start: float, length: float, num_steps: int) -> None:
    times = step_times(torch.tensor([[start, start + length]], dtype=torch.float64), num_steps)[0]
    assert times[0, 0].item() == start
    assert times[-1, 1].item() == start + length
    assert torch.equal(times[1:, 0], times[:-1, 1])
    lengths = torch.full((num_steps,), length / num_steps, dtype=torch.float64)
    assert_close_to_scale(times[:, 1] - times[:, 0], lengths, scale=start + length, ulps=16)


def test_the_language_model_reads_begin_token_visual_tokens_and_text(
    encoders: Encoders, languages: Callable[[Language], Path]
) -> None:
    model = alone(encoders, languages("llama"))
    tokens = model.tokens(model.encode(prepare_batch(model, [{"video": CLIP}])), ["what ?"])
    prompt = model.prompt(tokens, ["what ?"])
    tokenizer, embed = model.backbone.tokenizer, model.language.embedding
    begin = embed(torch.tensor([tokenizer.bos_token_id]))
    text = embed(torch.tensor(tokenizer("what ?", add_special_tokens=False)["input_ids"]))
    visual = tokens["video"].values[0].flatten(0, 1)
    torch.testing.assert_close(prompt.embeds[0], torch.cat([begin, visual, text]))


def test_a_prefix_of_choice_stands_before_every_step(encoders: Encoders, languages: Callable[[Language], Path]) -> None:
    model = build(
        [{**VIDEO, "prefix": "Frame {index}: "}], encoders=encoders, fusion=FUSION, language_model=languages("llama")
    )
    bare = alone(encoders, languages("llama"))
    assert (model.branch("video").prefix, bare.branch("video").prefix) == ("Frame {index}: ", "")
    assert cost_of(model, ["video"]).num_tokens > cost_of(bare, ["video"]).num_tokens


def test_an_answer_tells_how_much_each_encoder_says(encoders: Encoders, languages: Callable[[Language], Path]) -> None:
    model = alone(encoders, languages("llama"))
    with torch.no_grad():  # a query of the released start's size moves nothing on features this narrow
        model.adapter_parameters("video")["encoders.mixer.query"].mul_(300)
    answers = model.answer_many([{"question": "what ?", "video": source} for source in (CLIP, CLIP.flip(0) * 0.1)])
    for answer in answers:
        assert list(answer.extras[WEIGHTS]) == ["siglip", "vivit", "timm"]
        assert sum(answer.extras[WEIGHTS].values()) == pytest.approx(1, abs=1e-6)
    assert answers[0].extras != answers[1].extras
    averaged = alone(encoders, languages("llama"), fusion={**FUSION, "mixer": "channel"})
    assert averaged.answer("what ?", video=CLIP).extras == {}


def test_a_saved_model_answers_the_same(
    encoders: Encoders, languages: Callable[[Language], Path], tmp_path: Path
) -> None:
    model = alone(encoders, languages("llama"), fusion={**FUSION, "mixer": "scalar", "map_kind": "gelu_mlp"})
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.1)
    model.save_pretrained(tmp_path / "saved")
    loaded = crema_core.load(tmp_path / "saved")
    assert scores(loaded, video=CLIP) == scores(model, video=CLIP)
    assert loaded.branch("video").prefix == ""
    assert loaded.config["modalities"] == model.config["modalities"]


def test_one_modality_is_shared_as_an_adapter_and_refused_by_a_model_with_other_encoders(
    encoders: Encoders, languages: Callable[[Language], Path], tmp_path: Path
) -> None:
    folder = languages("llama")
    model, other = alone(encoders, folder), alone(encoders, folder, seed=1)
    model.save_adapter("video", tmp_path / "adapter")
    assert scores(other, video=CLIP) != scores(model, video=CLIP)
    other.load_adapter(tmp_path / "adapter")
    assert scores(other, video=CLIP) == scores(model, video=CLIP)
    two = alone(encoders[:2], folder)
    with pytest.raises(CheckpointError) as caught:
        two.load_adapter(tmp_path / "adapter")
    assert str(caught.value) == (
        "Cannot load 'video' into this model: it was trained with the encoders siglip layer -1 + vivit layer -1 + timm "
        "layer -1, this model has siglip layer -1 + vivit layer -1. Number and order must agree. Build the model with "
        "these encoders. Nothing was changed."
    )


@pytest.mark.parametrize(
    "supporting", ["self_gated", {"name": "ungated", "append": True}, "concat", "linear", "token_mixture"]
)
def test_other_modalities_are_fused_beside_the_encoders(encoders: Encoders, t5_folder: Path, supporting: Any) -> None:
    model = build(
        [VIDEO, wave_spec(), points_spec()],
        encoders=encoders,
        backbone=t5_folder,
        fusion={**FUSION, "supporting": supporting},
    )
    batch = prepare_batch(model, [{"video": CLIP, "wave": WAVE}, {"wave": WAVE}, {"video": CLIP}])
    questions = ["what ?"] * 3
    set_trainable(model, names_of(model, model.trainable_parameters().values()))
    loss = model.loss(model.tokens(model.encode(batch), questions), questions, ["red", "blue", "left"])
    loss.backward()
    own = model.adapter_parameters("video")
    assert all(parameter.grad is not None for parameter in own.values())
    assert own["encoders.projectors.0.map.weight"].grad.abs().sum() > 0
    assert any(parameter.grad is not None for parameter in model.adapter_parameters("wave").values())
    together, single = (
        model.answer_many([{"question": "what ?", "choices": ["red", "blue"], **own} for own in rows])
        for rows in ([{"video": CLIP}, {"video": CLIP, "wave": WAVE}], [{"video": CLIP}])
    )
    assert together[0].scores == pytest.approx(single[0].scores, abs=1e-5)
    assert together[1].scores != pytest.approx(single[0].scores, abs=1e-5)


def test_a_clip_with_a_clock_is_the_grid_of_modalities_with_one(encoders: Encoders, t5_folder: Path) -> None:
    model = build([VIDEO, wave_spec()], encoders=encoders, backbone=t5_folder, fusion=FUSION)
    assert isinstance(model.fusion, SelfGatedFusion)
    own = model.encode(prepare_batch(model, [{"video": CLIP, "wave": WAVE}]))
    clocked = own["video"].features._replace(times=torch.tensor([[[0.0, 3.0]]]))
    tokens = model.tokens(own | {"video": own["video"]._replace(features=clocked)}, ["what ?"])
    seen: dict[str, torch.Tensor] = {}
    model.fusion.blocks["wave"].register_forward_pre_hook(lambda module, given: seen.update(steps=given[0]))
    model.prompt(tokens, ["what ?"])
    # Four steps of the clip and four of the wave, over the same three seconds.
    torch.testing.assert_close(seen["steps"], tokens["wave"].values)


def test_adding_a_modality_changes_nothing_until_it_is_trained(encoders: Encoders, t5_folder: Path) -> None:
    registry.register(wave_spec())
    model = build([VIDEO], encoders=encoders, backbone=t5_folder, fusion=FUSION)
    before = scores(model, video=CLIP)
    model.add_modality("wave")
    assert scores(model, video=CLIP) == before
    assert scores(model, video=CLIP, wave=WAVE) != before
    assert isinstance(build([VIDEO, "wave"], encoders=encoders, backbone=t5_folder,
                            fusion={**FUSION, "supporting": "concat"}).fusion, ConcatFusion)  # fmt: skip


def test_early_exit_measures_everything_where_there_is_no_lora(
    encoders: Encoders, t5_folder: Path, tmp_path: Path
) -> None:
    model = build([VIDEO, wave_spec()], encoders=encoders, backbone=t5_folder, fusion=FUSION)
    distributed = Distributed(precision="fp32", folder=tmp_path)
    stepper = Stepper(model, TrainSettings(early_exit_metric="lora"), trained=model.names, distributed=distributed)
    assert list(map(id, stepper.measured["video"])) == list(map(id, model.adapter_parameters("video").values()))
    assert list(map(id, stepper.measured["wave"])) == list(map(id, model.lora_parameters("wave").values()))


def test_parameters_and_arithmetic_are_the_modalities(
    encoders: Encoders, languages: Callable[[Language], Path]
) -> None:
    model = alone(encoders, languages("llama"))
    rows = {row.name: row for row in describe_model(model).components}
    width = model.backbone.language_dim
    assert rows["video"].trainable == (8 + 1 + 8 + 1 + 16 + 1) * width + width
    assert rows["video"].frozen == sum(parameter.numel() for parameter in model.branch("video").modality.parameters())
    assert rows["fusion"].trainable == 0
    wide = alone(encoders, languages("llama"), fusion={**FUSION, "map_kind": "gelu_mlp"})
    assert cost_of(wide, ["video"]).gflops["video"] > cost_of(model, ["video"]).gflops["video"]
