"""A modality is trained on vision-language models of several kinds: it is heard, kept, shared and taken along."""

from __future__ import annotations

import json
import math
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.api.build import build
from crema_core.data.data_file import Record
from crema_core.data.dataset import TrainBatch
from crema_core.errors import BuildError, CheckpointError, TrainingError
from crema_core.evaluation.run import evaluate
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.trainable import names_of, set_trainable
from crema_core.train.distributed import Distributed
from crema_core.train.fit import fit
from crema_core.train.settings import train_settings
from crema_core.train.steps import Minibatch, PartLoss, Stepper, StepResult, modalities_to_train
from tests.support.vlm import save_vlm

pytestmark = pytest.mark.slow

SOUND = {"name": "audio", "encoder": "patches"}
SMALL = {"layers": 1, "width": 64, "num_queries": 4}
RATE_HZ = 16000
QUESTION, CHOICES = "What sound?", ("low", "high")


def write_samples(folder: Path, name: str, count: int, *, seed: int) -> Path:
    """Write pictures of noise with low and high tones, which the picture says nothing about."""
    draws = np.random.default_rng(seed)
    records = []
    for index in range(count):
        picture = draws.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{name}{index}.png")
        low, high = ((150, 400), (2500, 4000))[index % 2]
        turns = 2 * math.pi * draws.uniform(low, high) * np.arange(RATE_HZ) / RATE_HZ
        with wave.open(str(folder / f"{name}{index}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes((16000 * np.sin(turns)).astype("<i2").tobytes())
        sources = {"video": f"{name}{index}.png", "audio": f"{name}{index}.wav"}
        answer = {"question": QUESTION, "answer": CHOICES[index % 2], "choices": CHOICES}
        records.append({"id": f"{name}{index}", **answer, **sources})
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["internvl", "qwen3_vl", "video_llama_3"])
def test_sixty_steps_lower_the_loss_and_the_sound_is_heard(kind: str, tmp_path: Path) -> None:
    model = build(
        ["video", SOUND],
        backbone=save_vlm(tmp_path / "backbone", kind),
        qformer=SMALL,
        template={"choice_scoring": "likelihood"},
    )
    frozen = model.frozen_fingerprint()
    data = write_samples(tmp_path, "train", 24, seed=0)
    run = fit(model, data, out=tmp_path / "run", epochs=20, batch_size=8, lr=3e-3, warmup_steps=0)
    losses = [float(str(row["loss"])) for row in run.metrics if row["kind"] == "epoch"]
    assert run.num_steps == 60
    assert losses[-1] < 0.95 * losses[0]
    assert model.frozen_fingerprint() == frozen
    heard = evaluate(model, write_samples(tmp_path, "test", 32, seed=1)).accuracy
    assert heard >= 22 / 32, "more right than one guess in forty"


def test_a_modality_with_nothing_to_train_has_no_sub_step_of_its_own(tmp_path: Path) -> None:
    folder = save_vlm(tmp_path / "backbone", "qwen3_vl")
    model = build(["video", SOUND], backbone=folder, qformer=SMALL)
    settings = {
        "epochs": 3,
        "batch_size": 4,
        "early_exit": 0.01,
        "early_exit_reference": "all",
        "early_exit_loss_drop": None,
    }
    run = fit(model, write_samples(tmp_path, "train", 4, seed=0), out=tmp_path / "run", **settings)
    losses = [{key for key in row if key.startswith("loss/")} for row in run.metrics if row["kind"] == "epoch"]
    assert losses == [{"loss/audio"}] * 2, "audio exits after its second epoch, and nothing is left"
    tuned = build(["video", SOUND], backbone=folder, qformer=SMALL, tuning={"rank": 2, "alpha": 2})
    assert modalities_to_train(tuned, train_settings(None, {})) == tuned.names, (
        "every sub-step trains the language model"
    )


def test_a_model_of_which_nothing_is_trained_is_refused_with_what_to_add(tmp_path: Path) -> None:
    model = build(["video"], backbone=save_vlm(tmp_path / "backbone", "qwen3_vl"), qformer=SMALL)
    with pytest.raises(TrainingError) as caught:
        fit(model, write_samples(tmp_path, "train", 2, seed=0), out=tmp_path / "run")
    assert str(caught.value) == (
        "Nothing of video is trained: the backbone takes that as it is. A training needs a modality that passes an "
        "adapter, or a language model that is tuned. Add one with model.add_modality, or build with "
        'tuning={"rank": 64}.'
    )
    assert not (tmp_path / "run").exists()


def test_a_new_qformer_comes_with_its_first_modality_and_fits_no_other(tmp_path: Path) -> None:
    folder = save_vlm(tmp_path / "backbone", "qwen3_vl")
    second = {**SOUND, "name": "audio"}
    model = build(["video", second, {"name": "thermal"}], backbone=folder, qformer=SMALL)
    own = [name for name in model.trainable_parameters() if ".qformer." in name]
    assert own
    assert all(name.startswith("modalities.audio.") for name in own)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.1)
    for name in ("audio", "thermal"):
        model.save_adapter(name, tmp_path / name)
    other = build(["video"], backbone=folder, qformer=SMALL)
    with pytest.raises(
        CheckpointError, match=r"new Q-Former that came with 'audio'.* Load the adapter of 'audio' first"
    ):
        other.load_adapter(tmp_path / "thermal")
    assert other.names == ("video",)
    other.load_adapter(tmp_path / "audio")
    other.load_adapter(tmp_path / "thermal")
    sound = torch.randn(RATE_HZ, generator=torch.Generator().manual_seed(0))
    features = model.encode(prepare_batch(model, [{"audio": sound}]))
    first, again = (one.modality_tokens("audio", features["audio"]).values for one in (model, other))
    assert torch.equal(first, again)
    taken = build(["video", {"name": "thermal"}], backbone=folder, qformer=SMALL)
    with pytest.raises(CheckpointError, match="belongs to 'thermal'"):
        taken.load_adapter(tmp_path / "audio")


def test_an_update_of_the_owner_of_a_new_qformer_reaches_the_others_in_the_same_minibatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept tokens and graphs of another modality would be those of the Q-Former as it was."""
    folder = save_vlm(tmp_path, "qwen3_vl")
    model = build(["video", SOUND, "thermal", "touch"], backbone=folder, qformer=SMALL)
    chosen = train_settings(None, {"lr": 1e-2, "max_grad_norm": None})
    stepper = Stepper(
        model, chosen, trained=model.names, distributed=Distributed(precision="fp32", folder=tmp_path / "run")
    )
    set_trainable(model, names_of(model, stepper.parameters.values()))
    draws = torch.Generator().manual_seed(0)
    names = ("audio", "thermal", "touch")
    sources = {name: model.branch(name).modality.example(draws) for name in names}
    features = model.encode(prepare_batch(model, [sources]))
    records = (Record("a", QUESTION, "low", {}),)
    batch = TrainBatch(records, {name: own.rows for name, own in features.items()}, {})
    found: list[tuple[float, float]] = []
    step = stepper._step

    def watched(names: Any, losses: Sequence[PartLoss], result: StepResult, *more: Any) -> float:
        if list(names) == ["thermal"]:
            with torch.no_grad():
                fresh = model.loss(model.tokens(features, [QUESTION]), [QUESTION], ["low"])
            found.append((sum(float(part.value) for part in losses), float(fresh)))
        return step(names, losses, result, *more)

    monkeypatch.setattr(stepper, "_step", watched)
    with torch.no_grad():
        before = float(model.loss(model.tokens(features, [QUESTION]), [QUESTION], ["low"]))
    stepper.sequential([Minibatch(batch, features)], model.names)
    ((recorded, fresh),) = found
    assert abs(recorded - fresh) < 1e-4 * abs(fresh)
    assert abs(recorded - before) > 1e-2, "the first modality's update changed nothing"


def test_a_frozen_qformer_of_a_blip2_checkpoint_is_taken(tmp_path: Path, t5_folder: Path) -> None:
    folder = save_vlm(tmp_path, "qwen3_vl")
    model = build(["video", SOUND], backbone=folder, qformer=str(t5_folder))
    theirs: Any = build(["video"], backbone=t5_folder).backbone
    ours: Any = model.backbone
    assert torch.equal(ours.query_tokens, theirs.query_tokens)
    ours_own, theirs_own = ours.qformer.own_parameters(), theirs.qformer.own_parameters()
    assert ours_own.keys() == theirs_own.keys()
    assert all(torch.equal(own, theirs_own[name]) for name, own in ours_own.items())
    assert not [name for name in model.trainable_parameters() if ".qformer." in name]
    with pytest.raises(CheckpointError, match=r"is a 'qwen3_vl' model\. Accepted: a folder or hub id in BLIP-2 format"):
        build(["video"], backbone=folder, qformer=str(folder))


@pytest.mark.parametrize("fusion", ["self_gated", "concat", "individual_qformers"])
def test_new_fused_tokens_are_as_long_as_the_models_own_embeddings(tmp_path: Path, fusion: str) -> None:
    model = build(["video", SOUND], backbone=save_vlm(tmp_path, "gemma3"), qformer=SMALL, fusion=fusion)
    sound = torch.randn(RATE_HZ, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.encode(prepare_batch(model, [{"audio": sound}]))
        prompt = model.prompt(model.tokens(features, [QUESTION]), [QUESTION])
    assert prompt.ids is not None
    backbone: Any = model.backbone
    length = float(prompt.embeds[prompt.ids.placed].square().mean().sqrt())
    assert 0.5 < length / backbone.embedding_scale() < 2


@pytest.mark.parametrize("fusion", ["self_gated", "concat"])
def test_tokens_that_start_as_zeros_are_scaled_as_those_of_a_new_projection(tmp_path: Path, fusion: str) -> None:
    folder = save_vlm(tmp_path, "gemma3")
    gains = {}
    for start in ("fresh", "zero"):
        sound = {**SOUND, "mmqa": {"output_start": start}}
        model = build(["video", sound], backbone=folder, qformer=SMALL, fusion=fusion)
        gains[start] = model.config["gain"]
    assert model.branch("audio").adapter.is_zero, "the probe leaves the zeros"
    assert gains["zero"] == pytest.approx(gains["fresh"], rel=0.5)
    assert gains["zero"] != 1.0


def test_nothing_is_copied_where_the_model_has_no_output_projection(tmp_path: Path) -> None:
    sound = {**SOUND, "mmqa": {"output_start": "copied"}}
    with pytest.raises(BuildError, match=r"audio: output_start='copied' starts from the backbone's own output proj"):
        build(["video", sound], backbone=save_vlm(tmp_path, "gemma3"), qformer=SMALL)


def test_tokens_of_frames_stand_behind_their_frames_or_in_one_block(tmp_path: Path) -> None:
    folder = save_vlm(tmp_path, "qwen3_vl")
    shapes = {}
    for placement in ("frames", "block"):
        model = build(["video", SOUND], backbone=folder, qformer=SMALL, template={"placement": placement})
        frames = torch.randint(0, 256, (4, 3, 40, 56), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        sound = torch.randn(RATE_HZ, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = model.encode(prepare_batch(model, [{"video": frames, "audio": sound}]))
            prompt = model.prompt(model.tokens(features, [QUESTION]), [QUESTION])
        assert prompt.ids is not None
        kinds = [
            2 if own else 1 if placed else 0
            for own, placed in zip(prompt.ids.own[0], prompt.ids.placed[0], strict=True)
        ]
        shapes[placement] = [kind for kind, before in zip(kinds, [0, *kinds], strict=False) if kind and kind != before]
    assert shapes == {"frames": [2, 1, 2, 1], "block": [2, 2, 1]}, "two pairs of frames (2), their fused tokens (1)"
