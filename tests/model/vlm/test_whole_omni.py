"""Qwen-Omni as published, a thinker beside parts that speak, is a backbone: its thinker, from the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoProcessor

from crema_core import load
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.vlm.family import beside_decoder_of, visual_config
from tests.model.vlm.test_against_transformers import ANSWER, QUESTION, ULPS, ours, source, theirs, with_answer
from tests.support.numeric import assert_close_to_scale
from tests.support.vlm import auto_class, save_vlm, save_whole_omni, sound

OWN_EARS = {"name": "audio", "encoder": "backbone", "window_s": 2.0, "num_windows": 1}
SMALL = {"layers": 1, "width": 64, "num_queries": 3}
THINKERS = ["qwen2_5_omni_thinker", pytest.param("qwen3_omni_moe_thinker", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=THINKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whole_omni(tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def model(folder: Path) -> CremaModel:
    return build(["video", OWN_EARS], backbone=folder, qformer=SMALL)


def test_the_thinker_alone_is_loaded(kind: str, folder: Path, model: CremaModel) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == kind.removesuffix("_thinker")
    assert visual_config(config).model_type == kind
    own = model.backbone.language_model
    wanted = auto_class(kind).from_config(config.thinker_config).state_dict()
    assert own.state_dict().keys() == wanted.keys()
    assert model.backbone.traits.clip_rate, "set for the thinker's model type"  # type: ignore[union-attr]


def test_its_logits_are_those_of_the_thinkers_own_checkpoint(kind: str, model: CremaModel, tmp_path: Path) -> None:
    thinker = auto_class(kind).from_pretrained(save_vlm(tmp_path, kind)).eval()
    for medium in ("image", "video"):
        given, prompt = theirs(model, medium), ours(model, {"video": source(medium)})
        with torch.no_grad():
            wanted = thinker(**with_answer(model, given), use_cache=False).logits
            found = model.language.logits(prompt, ANSWER)
        assert_close_to_scale(found, wanted[:, -ANSWER.shape[1] - 1 : -1], ulps=ULPS)


def test_it_hears_with_the_thinkers_ears(kind: str, model: CremaModel, tmp_path: Path) -> None:
    sample = {"audio": torch.from_numpy(sound())}
    thinker = build(["video", OWN_EARS], backbone=save_vlm(tmp_path, kind), qformer=SMALL)
    found, wanted = (one.encode(prepare_batch(one, [sample]))["audio"].features.values for one in (model, thinker))
    assert wanted.abs().sum() > 0
    assert torch.equal(found, wanted)


def test_a_saved_model_reloads_on_the_whole_checkpoint(model: CremaModel, tmp_path: Path) -> None:
    sample = {"video": source("video"), "audio": torch.from_numpy(sound())}
    with torch.no_grad():
        wanted = model.language.logits(ours(model, sample), ANSWER)
        model.save_pretrained(tmp_path / "saved")
        again = load(tmp_path / "saved")
        assert torch.equal(again.language.logits(ours(again, sample), ANSWER), wanted)


def test_the_processor_and_what_stays_whole_in_quantisation_are_the_thinkers(folder: Path, model: CremaModel) -> None:
    own: Any = model.backbone
    assert own.processor.to_dict() == AutoProcessor.from_pretrained(folder).to_dict()
    config = AutoConfig.from_pretrained(folder)
    assert {"lm_head", "model.audio_tower", "model.visual"} <= set(beside_decoder_of(visual_config(config)))
    assert QUESTION in own.tokenizer.decode(ours(model, {"video": source("image")}).ids.ids[0])  # type: ignore[union-attr]
