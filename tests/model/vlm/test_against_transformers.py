"""With the model's own visual tokens alone, prompts, logits and answers are those transformers gives by itself.

Every kind of `tests.support.vlm`, random weights, the family's own processor. A wrong id, position or mask moves these
logits by tenths and more; what is compared here differs by roundings of float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoProcessor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.features.cache.keys import encoder_identity
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.prompt import Prompt
from tests.support.numeric import assert_close_to_scale
from tests.support.vlm import KINDS, VLMS, clip, inputs, picture, save_vlm

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
QUICK = ("gemma3", "qwen3_vl")
OTHERS = ("blip-2", "instructblip", "instructblipvideo")
"""Q-Former kinds, which other families load."""
REFUSED = ("mllama",)
"""Pictures enter by cross-attention there, in no token of the prompt."""
BEAMLESS = ("llama4", "glm4v", "glm46v", "glm4v_moe")
"""transformers' own beams raise with pictures or clips."""
OURS = [
    pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow)
    for kind in KINDS
    if kind not in (*OTHERS, *REFUSED)
]
QUESTION = "What is it, é?"
ANSWER = torch.tensor([[70, 71, 72]])
ULPS = 512
"""Of float32 roundings, relative to the largest logit: another order of sums in attention over padded keys."""
SOUND = {"name": "audio", "encoder": "patches"}
SMALL = {"layers": 1, "width": 64, "num_queries": 3}


@pytest.fixture(scope="module", params=OURS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CremaModel]:
    folder = save_vlm(tmp_path_factory.mktemp(str(request.param)), str(request.param))
    return build(["video", SOUND], backbone=folder, qformer=SMALL)


def kind_of(model: CremaModel) -> str:
    return str(model.backbone.language_model.config.model_type)


def source(medium: str, seed: int = 0) -> Tensor:
    frames = clip(seed=seed) if medium == "video" else picture(seed=seed)[None]
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def media(model: CremaModel) -> tuple[str, ...]:
    reader: Any = model.branch("video").modality.context.reader
    return ("image", "video") if reader.takes_clips else ("image",)


@torch.no_grad()
def ours(model: CremaModel, *samples: Mapping[str, Any], questions: tuple[str, ...] = (QUESTION,)) -> Prompt:
    features = model.encode(prepare_batch(model, list(samples)))
    return model.prompt(model.tokens(features, questions), questions)


def theirs(model: CremaModel, medium: str) -> dict[str, Any]:
    """Return what the processor gives, with one begin token where template and tokenizer both write it."""
    processor: Any = AutoProcessor.from_pretrained(model.backbone.source)
    given = inputs(processor, kind_of(model), medium, question=QUESTION, fps=1.0)
    shape, ids = given["input_ids"].shape, given["input_ids"][0].tolist()
    if ids[0] == ids[1] == processor.tokenizer.bos_token_id:
        given = {key: own[:, 1:] if getattr(own, "shape", ())[:2] == shape else own for key, own in given.items()}
    known = inspect.signature(model.backbone.language_model.forward).parameters
    return {key: own for key, own in given.items() if key in known}


def with_answer(model: CremaModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs with the ids of an answer behind them."""
    shape = given["input_ids"].shape
    kinds: Mapping[str, int] = model.backbone.traits.answer_kinds  # type: ignore[union-attr]
    longer = {
        key: torch.nn.functional.pad(own, (0, ANSWER.shape[1]), value=kinds.get(key, 0))
        if key not in ("input_ids", "attention_mask") and getattr(own, "shape", ())[:2] == shape
        else own
        for key, own in given.items()
    }
    ids = torch.cat([given["input_ids"], ANSWER], 1)
    return {**longer, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_the_prompt_is_the_processors_and_the_logits_are_the_models_own(model: CremaModel) -> None:
    for medium in media(model):
        given, prompt = theirs(model, medium), ours(model, {"video": source(medium)})
        assert prompt.ids is not None
        assert prompt.ids.ids[0].tolist() == given["input_ids"][0].tolist()
        with torch.no_grad():
            wanted = model.backbone.language_model(**with_answer(model, given), use_cache=False).logits
            found = model.language.logits(prompt, ANSWER)
        assert_close_to_scale(found, wanted[:, -ANSWER.shape[1] - 1 : -1], ulps=ULPS)


def test_answers_are_those_of_its_own_generation_greedy_and_in_beams(model: CremaModel) -> None:
    for medium in media(model):
        given, prompt = theirs(model, medium), ours(model, {"video": source(medium)})
        marks = list(model.backbone.placeholders)  # type: ignore[union-attr]
        for beams in (1, 2) if kind_of(model) not in BEAMLESS else (1,):
            settings: dict[str, Any] = {"max_new_tokens": 5, "num_beams": beams, "suppress_tokens": marks}
            with torch.no_grad():
                ids = model.backbone.language_model.generate(**given, do_sample=False, **settings)
                found = model.language._generate(prompt, **settings)
            assert found.tolist() == ids.tolist(), (medium, beams)


def test_a_batch_of_all_sorts_is_answered_as_its_samples_alone(model: CremaModel) -> None:
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    samples: list[dict[str, Any]] = [
        {"video": source("video"), "audio": sound},
        {"audio": sound[:8000]},
        {"video": source("image", seed=1)},
        {"video": source("video", seed=2)[:2], "audio": sound},
    ]
    questions = ("Who is there now?", "What?", "Is it red or blue?", "Where is it?")
    whole = ours(model, *samples, questions=questions)
    answers = ANSWER.expand(len(samples), -1)
    with torch.no_grad():
        together = model.language.logits(whole, answers)
        for row, (sample, question) in enumerate(zip(samples, questions, strict=True)):
            alone = ours(model, sample, questions=(question,))
            assert_close_to_scale(together[row], model.language.logits(alone, ANSWER)[0], ulps=ULPS)


def test_gradient_reaches_the_adapter_alone(model: CremaModel) -> None:
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    features = model.encode(prepare_batch(model, [{"video": source("video"), "audio": sound}]))
    trained = model.trainable_parameters()
    for parameter in trained.values():
        parameter.requires_grad_()
    try:
        model.loss(model.tokens(features, [QUESTION]), [QUESTION], ["red"]).backward()
        assert not [name for name, own in model.named_parameters() if own.grad is not None and not own.requires_grad]
        silent = [name for name, own in trained.items() if own.grad is None]
        assert not silent
        assert all(bool(own.grad.isfinite().all()) for own in trained.values() if own.grad is not None)
        assert float(trained["modalities.audio.mmqa.output.weight"].grad.abs().max()) > 0  # type: ignore[union-attr]
    finally:
        for parameter in trained.values():
            parameter.requires_grad_(False)
            parameter.grad = None


def test_an_added_modality_that_was_never_trained_changes_nothing(tmp_path: Path, model: CremaModel) -> None:
    alone = build(["video"], backbone=model.backbone.source, qformer=SMALL)
    before = ours(alone, {"video": source("image")})
    alone.add_modality(SOUND)
    after = ours(alone, {"video": source("image"), "audio": torch.randn(16000)})
    assert after.ids is not None
    assert before.ids is not None
    assert after.ids.ids.tolist() == before.ids.ids.tolist()
    with torch.no_grad():
        assert torch.equal(alone.language.logits(after, ANSWER), alone.language.logits(before, ANSWER))


def test_kept_features_give_the_same_logits_and_a_saved_model_too(tmp_path: Path, model: CremaModel) -> None:
    from PIL import Image

    from crema_core.api.load import load
    from crema_core.features.encode import encode_sources
    from crema_core.features.feature_cache import as_cache

    Image.fromarray(picture()).save(tmp_path / "a.png")
    sources = [{"video": str(tmp_path / "a.png")}]
    fresh = model.encode(prepare_batch(model, sources))
    cache = as_cache(model, tmp_path / "cache")
    encode_sources(model, sources, cache)
    kept = encode_sources(model, sources, as_cache(model, tmp_path / "cache"))
    with torch.no_grad():
        first, second = (
            model.language.logits(model.prompt(model.tokens(own, [QUESTION]), [QUESTION]), ANSWER)
            for own in (fresh, kept)
        )
        assert torch.equal(first, second)
        model.save_pretrained(tmp_path / "model")
        again = load(tmp_path / "model")
        sound = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        sample = {"video": source("image"), "audio": sound}
        assert torch.equal(
            again.language.logits(ours(again, sample), ANSWER), model.language.logits(ours(model, sample), ANSWER)
        )


def test_kept_features_belong_to_weights_and_settings_of_the_processor(tmp_path: Path) -> None:
    first, other = (build(["video"], backbone=save_vlm(tmp_path / str(seed), "qwen3_vl", seed=seed)) for seed in (0, 1))
    assert encoder_identity(first, "video", kept=None) == encoder_identity(first, "video", kept=None)
    assert encoder_identity(first, "video", kept=None) != encoder_identity(other, "video", kept=None)
    before = encoder_identity(first, "video", kept=None)
    first.backbone.processor.image_processor.do_rescale = False  # type: ignore[union-attr, operator]
    assert encoder_identity(first, "video", kept=None) != before


def test_a_kind_nobody_tried_is_compared_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crema_core.model.vlm.family.tried", dict)
    assert build(["video"], backbone=save_vlm(tmp_path / "one", "qwen3_vl")).names == ("video",)
    with pytest.raises(CheckpointError, match=r"'minicpmv4_7' was tried on a picture, .* logits of up to .* differ by"):
        build(["video"], backbone=save_vlm(tmp_path / "another", "minicpmv4_7"))  # it counts positions from more


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_the_recipe_does_not_fit_is_refused_with_what_differs(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"model type '{kind}' was tried on a picture"):
        build(["video"], backbone=save_vlm(tmp_path, kind))


def test_every_kind_here_is_written_down_as_tried() -> None:
    from crema_core.model.vlm.traits import tried

    assert {kind for kind in KINDS if kind not in (*OTHERS, *REFUSED)} == set(tried())
    assert set(VLMS) == set(KINDS)


@pytest.mark.slow
def test_padding_has_a_gradient_where_its_own_embedding_is_zero(tmp_path: Path) -> None:
    # Gemma 3n divides by the length of each vector: the gradient at a vector of zeros is NaN.
    model = build([SOUND], backbone=save_vlm(tmp_path, "gemma3n"), qformer=SMALL)
    embedding: Any = model.backbone.language_model.get_input_embeddings()
    with torch.no_grad():
        embedding.weight[model.backbone.tokenizer.pad_token_id] = 0
    trained = model.trainable_parameters()
    for parameter in trained.values():
        parameter.requires_grad_()
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    features = model.encode(prepare_batch(model, [{"audio": sound}, {"audio": sound[:8000]}]))
    questions = [QUESTION, "Is it red or blue?"]
    model.loss(model.tokens(features, questions), questions, ["red", "it is blue"]).backward()
    assert all(bool(own.grad.isfinite().all()) for own in trained.values() if own.grad is not None)
    assert any(own.grad is not None for own in trained.values())
