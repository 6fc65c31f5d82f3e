"""PAVE on vision-language models of every kind: patches update the visual tokens that the model itself makes.

Random weights, the family's own processor. What visual tokens, prompts and logits are without a patch is compared with
transformers' own in `tests/model/vlm`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.errors import BuildError, OptionsError
from crema_core.features.encode import encode_sources
from crema_core.features.feature_cache import as_cache, prepare_batch
from crema_core.model.load_backbone import load_backbone
from crema_core.train.fit import fit
from crema_pave.connectors import BEFORE_PROJECTOR
from tests.model.vlm.test_against_transformers import ANSWER, OURS, QUESTION, ULPS, source
from tests.model.vlm.test_training import write_samples
from tests.support.modalities import wave_spec
from tests.support.numeric import assert_close_to_scale
from tests.support.pave_models import randomized
from tests.support.vlm import picture, save_vlm

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SOUND = {"name": "audio", "encoder": "patches"}
PAVE = {"name": "pave", "embed_dim": 16, "num_heads": 2}
INNER = ("llava_onevision", "qwen2_5_vl", "qwen2_vl", "video_llava")


@pytest.fixture(scope="module", params=OURS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CremaModel]:
    """A model whose patch was never trained."""
    folder = save_vlm(tmp_path_factory.mktemp(str(request.param)), str(request.param))
    return build(["video", SOUND], backbone=folder, fusion=PAVE)


@pytest.fixture(scope="module")
def trained(model: CremaModel) -> CremaModel:
    return randomized(build(["video", SOUND], backbone=str(model.backbone.source), fusion=PAVE))


def sound(seed: int = 0) -> Tensor:
    return torch.randn(32000, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: CremaModel, *samples: Mapping[str, Any], questions: tuple[str, ...] = (QUESTION,)) -> Tensor:
    prompt = model.prompt(model.tokens(model.encode(prepare_batch(model, list(samples))), questions), questions)
    return model.language.logits(prompt, ANSWER.expand(len(samples), -1))


@pytest.mark.parametrize("medium", ["image", "video"])
def test_a_patch_that_was_never_trained_changes_no_logit(model: CremaModel, trained: CremaModel, medium: str) -> None:
    seen = {"video": source(medium)}
    plain = logits(model, seen)
    assert torch.equal(logits(model, {**seen, "audio": sound()}), plain)
    assert torch.equal(logits(trained, seen), plain)
    assert not torch.equal(logits(trained, {**seen, "audio": sound()}), plain)


def test_the_prompt_stays_as_it_is_and_only_visual_tokens_of_frames_change(trained: CremaModel) -> None:
    prompts = []
    for more in ({}, {"audio": sound()}):
        features = trained.encode(prepare_batch(trained, [{"video": source("video"), **more}]))
        with torch.no_grad():
            prompts.append(trained.prompt(trained.tokens(features, [QUESTION]), [QUESTION]))
    plain, updated = prompts
    assert plain.ids is not None
    assert updated.ids is not None
    assert torch.equal(updated.ids.ids, plain.ids.ids)
    changed = (updated.embeds != plain.embeds).any(-1)
    assert not bool((changed & ~plain.ids.own).any())
    closing: int = trained.backbone.traits.closing  # type: ignore[union-attr, assignment]
    assert int(changed.sum()) == int(features["video"].features.mask.sum()) - closing  # newlines stay
    if plain.ids.deep is not None:
        assert updated.ids.deep is not None
        assert torch.equal(updated.ids.deep, plain.ids.deep)


def test_a_batch_of_all_sorts_is_answered_as_its_samples_alone(trained: CremaModel) -> None:
    samples: list[dict[str, Any]] = [
        {"video": source("video"), "audio": sound()},
        {"video": source("image", seed=1), "audio": sound(1)[:8000]},
        {"video": source("video", seed=2)[:2]},
        {"video": source("video", seed=3)[:2, :, :32], "audio": sound(2)},
    ]
    questions = ("Who is there now?", "What?", "Is it red or blue?", "Where is it?")
    together = logits(trained, *samples, questions=questions)
    for row, (sample, question) in enumerate(zip(samples, questions, strict=True)):
        assert_close_to_scale(together[row], logits(trained, sample, questions=(question,))[0], ulps=ULPS)


def test_gradient_reaches_the_patch_alone(model: CremaModel) -> None:
    parameters = model.trainable_parameters()
    assert {name.split(".")[0] for name in parameters} == {"fusion"}
    features = model.encode(prepare_batch(model, [{"video": source("video"), "audio": sound()}]))
    for parameter in parameters.values():
        parameter.requires_grad_()
    try:
        model.loss(model.tokens(features, [QUESTION]), [QUESTION], ["red"]).backward()
        frozen = [name for name, own in model.named_parameters() if own.grad is not None and not own.requires_grad]
        assert not frozen
        found = {name: own.grad for name, own in parameters.items()}
        assert all(grad is not None and bool(grad.isfinite().all()) for grad in found.values())
        moved = {name for name, grad in found.items() if grad is not None and bool(grad.any())}
        assert moved == {"fusion.blocks.audio.norm.weight", "fusion.blocks.audio.norm.bias"}, (
            "the others start behind 0"
        )
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None


def test_kept_features_give_the_same_logits_and_a_saved_model_too(tmp_path: Path, trained: CremaModel) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    sources = [{"video": str(tmp_path / "a.png")}]
    fresh = trained.encode(prepare_batch(trained, sources))
    encode_sources(trained, sources, as_cache(trained, tmp_path / "cache"))
    kept = encode_sources(trained, sources, as_cache(trained, tmp_path / "cache"))
    with torch.no_grad():
        first, second = (
            trained.language.logits(trained.prompt(trained.tokens(own, [QUESTION]), [QUESTION]), ANSWER)
            for own in (fresh, kept)
        )
    assert torch.equal(first, second)
    trained.save_pretrained(tmp_path / "model")
    sample = {"video": source("image"), "audio": sound()}
    assert torch.equal(logits(load(tmp_path / "model"), sample), logits(trained, sample))


@pytest.mark.slow
def test_training_is_finite_and_moves_the_patch_alone(tmp_path: Path, model: CremaModel) -> None:
    own = build(["video", SOUND], backbone=str(model.backbone.source), fusion=PAVE)
    before, frozen = own.adapter_state_dict(), own.frozen_fingerprint()
    data = write_samples(tmp_path, "train", 4, seed=0)
    quiet = StatusLine(io.StringIO(), enabled=False)
    fit(own, data, out=tmp_path / "run", epochs=3, batch_size=2, lr=1e-2, status=quiet)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses
    assert bool(torch.tensor(losses).isfinite().all())
    assert own.frozen_fingerprint() == frozen
    after = own.adapter_state_dict()
    assert not torch.equal(after["fusion.blocks.audio.norm.weight"], before["fusion.blocks.audio.norm.weight"])


@pytest.mark.parametrize("kind", INNER)
def test_queries_are_what_the_model_itself_gives_its_projector(kind: str, tmp_path: Path) -> None:
    """Pooled as the frames are, or the mean of the patches that become a token, in the order of the tokens."""
    model = build(["video", SOUND], backbone=load_backbone(save_vlm(tmp_path, kind)), fusion=PAVE)
    assert model.fusion.queries == "inner"
    backbone: Any = model.backbone
    projector = backbone.language_model.get_submodule(backbone.traits.projector)
    given: list[Tensor] = []
    made: list[Tensor] = []

    def look(module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(arguments[0])
        made.append(output)

    handle = projector.register_forward_hook(look)
    features = model.encode(prepare_batch(model, [{"video": source("video")}]))
    handle.remove()
    tokens = model.tokens(features, [QUESTION])["video"]
    inner_FSE = tokens.extras[BEFORE_PROJECTOR][0]
    if kind == "video_llava":
        wanted = given[0]
    elif kind == "llava_onevision":
        side = round(given[0].shape[1] ** 0.5)
        pictures = given[0].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        half = (side + 1) // 2
        wanted = torch.nn.functional.interpolate(pictures, (half, half), mode="bilinear").flatten(2).transpose(1, 2)
        inner_FSE = inner_FSE[:, : half * half]
    else:
        order = torch.cdist(tokens.values[0].flatten(0, 1), made[0].float()).argmin(1)  # some come window by window
        assert sorted(order.tolist()) == list(range(len(made[0])))
        wanted = given[0].reshape(len(made[0]), 4, -1).mean(1)[order].reshape(inner_FSE.shape)
    assert_close_to_scale(inner_FSE, wanted, ulps=ULPS)


def test_rotary_of_space_and_learnable_queries_follow_the_grid_of_a_sample(tmp_path: Path) -> None:
    folder, wave = save_vlm(tmp_path, "qwen3_vl"), wave_spec()
    options = {"rotary": "space_time", "embed_dim": 32, "queries": "projected", "order": "chained"}
    model = randomized(build(["video", wave], backbone=folder, fusion={**PAVE, **options}))
    waves = torch.randn(2, 5, 4, 10, generator=torch.Generator().manual_seed(0))  # four tokens make a square
    wide, tall = source("video"), source("video", seed=1).transpose(2, 3)
    samples = [{"video": wide, "wave": waves[0]}, {"video": tall, "wave": waves[1]}]
    together = logits(model, *samples, questions=(QUESTION, QUESTION))
    for row, sample in enumerate(samples):
        assert_close_to_scale(together[row], logits(model, sample)[0], ulps=ULPS)
    learnt = randomized(build(["video", wave], backbone=folder, fusion={**PAVE, "queries": "learnable"}))
    square = torch.randint(0, 256, (4, 3, 336, 336), dtype=torch.uint8)
    assert not torch.equal(logits(learnt, {"video": square, "wave": waves[0]}), logits(learnt, {"video": square}))
    with pytest.raises(OptionsError, match=r"frames of 12 tokens came\. Learnable queries were made for"):
        logits(learnt, samples[0])


def test_queries_before_a_projector_that_is_not_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        build(["video"], backbone=save_vlm(tmp_path, "qwen3_vl"), fusion={**PAVE, "queries": "inner"})
    assert str(caught.value) == (
        "queries='inner' came, and the visual tokens of this backbone are not known before its projector. Accepted: "
        "'projected' and 'learnable'. Leave queries out for 'projected'."
    )


def test_a_backbone_without_visual_tokens_of_its_own_is_refused() -> None:
    with pytest.raises(BuildError) as caught:
        build(["video"], backbone="crema-tiny", fusion=PAVE)
    assert "are to be a vision-language model's own, and the backbone 'crema-tiny' has none." in str(caught.value)
