"""MERV before a vision-language model: its mixed tokens stand where pictures would, in place of the model's own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.features.feature_cache import prepare_batch
from crema_core.train.fit import fit
from tests.model.vlm.test_against_transformers import ANSWER, QUESTION, ULPS, source
from tests.model.vlm.test_training import write_samples
from tests.support.numeric import assert_close_to_scale
from tests.support.vlm import save_vlm

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SOUND = {"name": "audio", "encoder": "patches"}
SMALL = {"layers": 1, "width": 64, "num_queries": 3}
KINDS = [
    pytest.param(kind, marks=() if kind == "qwen3_vl" else pytest.mark.slow)
    for kind in ("gemma3", "internvl", "llava_onevision", "paligemma", "qwen3_vl")
]


@pytest.fixture(scope="module", params=KINDS)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoders: list[dict[str, str]]
) -> CremaModel:
    folder = save_vlm(tmp_path_factory.mktemp(str(request.param)), str(request.param))
    return build(["video", SOUND], backbone=folder, fusion="merv", encoders=encoders, qformer=SMALL)


def sound(seed: int = 0) -> Tensor:
    return torch.randn(16000, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: CremaModel, *samples: dict[str, Any], questions: tuple[str, ...] = (QUESTION,)) -> Tensor:
    prompt = model.prompt(model.tokens(model.encode(prepare_batch(model, list(samples))), questions), questions)
    return model.language.logits(prompt, ANSWER.expand(len(samples), -1))


def test_mixed_tokens_stand_before_the_question_at_the_length_of_the_embeddings(model: CremaModel) -> None:
    features = model.encode(prepare_batch(model, [{"video": source("video")}]))
    with torch.no_grad():
        prompt = model.prompt(model.tokens(features, [QUESTION]), [QUESTION])
    assert prompt.ids is not None
    assert not bool(prompt.ids.own.any()), "the model sees nothing itself"
    count = model.branch("video").adapter.num_tokens
    assert count is not None
    placed = prompt.ids.placed[0].nonzero()[:, 0].tolist()
    assert placed == list(range(placed[0], placed[0] + len(placed)))
    assert len(placed) % count == 0
    behind = model.backbone.tokenizer.decode(prompt.ids.ids[0, placed[-1] + 1 :])
    assert QUESTION in behind
    length = float(prompt.embeds[0, placed].square().mean().sqrt())
    assert 0.5 < length / model.backbone.embedding_scale() < 2  # type: ignore[union-attr, operator]


def test_a_batch_is_answered_as_its_samples_alone(model: CremaModel) -> None:
    samples: list[dict[str, Any]] = [
        {"video": source("video"), "audio": sound()},
        {"video": source("video", seed=1)},
        {"audio": sound(1)},
        {"video": source("image", seed=2), "audio": sound(2)[:8000]},
    ]
    questions = ("Who is there now?", "What?", "Is it red or blue?", "Where is it?")
    together = logits(model, *samples, questions=questions)
    for row, (sample, question) in enumerate(zip(samples, questions, strict=True)):
        assert_close_to_scale(together[row], logits(model, sample, questions=(question,))[0], ulps=ULPS)


def test_encoders_and_modalities_are_heard_and_a_saved_model_says_the_same(tmp_path: Path, model: CremaModel) -> None:
    sample = {"video": source("video"), "audio": sound()}
    found = logits(model, sample)
    assert not torch.equal(found, logits(model, {**sample, "video": source("video", seed=1)}))
    assert not torch.equal(found, logits(model, {**sample, "audio": sound(1)}))
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(logits(load(tmp_path / "model"), sample), found)


def test_training_is_finite_and_moves_projectors_and_mixer(tmp_path: Path, model: CremaModel) -> None:
    before, frozen = model.adapter_state_dict(), model.frozen_fingerprint()
    data = write_samples(tmp_path, "train", 4, seed=0)
    quiet = StatusLine(io.StringIO(), enabled=False)
    fit(model, data, out=tmp_path / "run", epochs=1, batch_size=2, lr=1e-3, mode="joint", status=quiet)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = torch.tensor([row["loss"] for row in rows if "loss" in row])
    assert len(losses)
    assert bool(losses.isfinite().all())
    assert model.frozen_fingerprint() == frozen
    after = model.adapter_state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert any("encoders.projectors" in key for key in moved)
    assert any("encoders.mixer" in key for key in moved)
