"""Language models behind a Q-Former: logits, answers and losses are those transformers gives by itself.

Every kind of `tests.support.languages`, random weights. With text alone our vectors are the embeddings of ids, and
everything must be as from ids; with modalities a pass without kept keys and values is what generation must follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.id_language import IdLanguage
from crema_core.model.language_override import Known, known
from crema_core.model.load_backbone import load_backbone
from crema_core.model.prompt import Prompt
from tests.support.languages import LANGUAGE_KINDS, save_language_model
from tests.support.modalities import frames_spec, wave_spec
from tests.support.numeric import assert_close_to_scale
from tests.support.steps import SOURCES, train_a_little

QUICK = ("gemma3n_text", "rwkv")
READ_IDS = ("bamba falcon_h1 gemma3n_text gemma4_text nemotron_h openai-gpt qwen4_exp_text zamba2").split()
"""Given ids, see `crema_core.model.id_language`; all others are given vectors alone."""
REFUSED = known().refused
KINDS = {kind: pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in LANGUAGE_KINDS}
COMPARED = [own for kind, own in KINDS.items() if kind not in REFUSED]
QUESTION = "What is it?"
ANSWER = torch.tensor([[70, 71, 72]])
ITEMS: list[dict[str, Any]] = [
    {"question": QUESTION, "main": SOURCES["main"], "wave": SOURCES["wave"]},
    {"question": "Is the colour of the thing left or right, red or blue?", "main": SOURCES["main"][:1]},
    {"question": "What?", "wave": SOURCES["wave"]},
]
CHOICES = ["red", "blue", "green"]
ULPS = 1024
"""Of float32 roundings, relative to the largest value: linear attention in blocks adds up otherwise with padding."""


@pytest.fixture(scope="module", params=COMPARED)
def model(request: pytest.FixtureRequest, t5_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CremaModel:
    folder = save_language_model(tmp_path_factory.mktemp(request.param), request.param)
    return build([frames_spec("main"), wave_spec()], backbone=t5_folder, language_model=folder)


def kind_of(model: CremaModel) -> str:
    return str(model.backbone.language_model.config.model_type)


@torch.no_grad()
def prompt_of(model: CremaModel, *items: Mapping[str, Any]) -> Prompt:
    features = model.encode(
        prepare_batch(model, [{k: v for k, v in item.items() if k != "question"} for item in items])
    )
    questions = [item["question"] for item in items]
    return model.prompt(model.tokens(features, questions), questions)


def question_ids(model: CremaModel) -> Tensor:
    chat_format = model.language.chat_format
    return torch.tensor([[*chat_format.prefix, *chat_format.question_ids(QUESTION)]])


def started(model: CremaModel, ids: Tensor) -> Tensor:
    """Return what a decoder of its own reads to predict the ids."""
    start = torch.tensor([[model.backbone.language_model.config.decoder_start_token_id]])
    return torch.cat([start, ids[:, :-1]], 1)


@torch.no_grad()
def test_text_alone_has_the_logits_and_answers_of_its_ids(model: CremaModel) -> None:
    frozen: Any = model.backbone.language_model
    assert isinstance(model.language, IdLanguage) == (kind_of(model) in READ_IDS)
    ids, prompt = question_ids(model), model.language.prompt([], [QUESTION])
    if model.language.is_encoder_decoder:
        whole = {"input_ids": ids, "decoder_input_ids": started(model, ANSWER)}
        wanted = frozen(**whole, attention_mask=torch.ones_like(ids)).logits
    else:
        wanted = frozen(input_ids=torch.cat([ids, ANSWER], 1), use_cache=False).logits[:, -4:-1]
    assert_close_to_scale(model.language.logits(prompt, ANSWER), wanted, ulps=ULPS)
    for beams in (1, 2):
        settings: dict[str, Any] = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False}
        theirs = frozen.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
        new = theirs if model.language.is_encoder_decoder else theirs[:, ids.shape[1] :]
        text = model.backbone.tokenizer.batch_decode(new, skip_special_tokens=True)[0].strip()
        assert model.language.generate(prompt, max_new_tokens=5, num_beams=beams) == [text]


@torch.no_grad()
def test_our_tokens_have_the_logits_of_its_forward_pass_with_all_vectors_given(model: CremaModel) -> None:
    frozen: Any = model.backbone.language_model
    prompt = prompt_of(model, ITEMS[0])
    if model.language.is_encoder_decoder:
        wanted = frozen(inputs_embeds=prompt.embeds, decoder_input_ids=started(model, ANSWER)).logits
    else:
        vectors = torch.cat([prompt.embeds, frozen.get_input_embeddings()(ANSWER)], 1)
        more: dict[str, Any] = {}
        if prompt.ids is not None:
            ids = torch.cat([prompt.ids.ids, ANSWER], 1)
            assert set(prompt.ids.ids[prompt.ids.placed].tolist()) == {model.backbone.tokenizer.pad_token_id}
            if hasattr(frozen.get_decoder(), "project_per_layer_inputs"):
                table = frozen.get_decoder().embed_tokens_per_layer
                more = {"per_layer_inputs": table(ids).unflatten(-1, (-1, 8))}
            elif hasattr(frozen.get_decoder(), "reverse_embedding"):
                more = {"ple_input_ids": ids}
        wanted = frozen(inputs_embeds=vectors, use_cache=False, **more).logits[:, -4:-1]
    found = model.language.logits(prompt, ANSWER)
    assert_close_to_scale(found, wanted, ulps=ULPS)
    without = model.language.logits(prompt_of(model, {**ITEMS[0], "wave": None}), ANSWER)
    assert float((found - without).abs().max()) > 1e-3 * float(found.abs().max())


@torch.no_grad()
def test_greedy_answers_about_modalities_are_those_of_passes_that_keep_nothing(model: CremaModel) -> None:
    prompt, ids = prompt_of(model, ITEMS[0]), list[int]()
    for _ in range(5):
        logits = model.language.logits(prompt, torch.tensor([[*ids, 5]]))[0, -1]
        best = int(logits.argmax())
        if best in model.language.chat_format.stops:
            break
        ids.append(best)
    text = model.backbone.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert model.language.generate(prompt, max_new_tokens=5) == [text]


@pytest.mark.slow
@torch.no_grad()
def test_a_batch_is_answered_as_its_samples_alone(model: CremaModel) -> None:
    whole, alone = prompt_of(model, *ITEMS), [prompt_of(model, item) for item in ITEMS]
    together = model.language.logits(whole, ANSWER.expand(len(ITEMS), -1))
    for row, own in enumerate(alone):
        assert_close_to_scale(together[row], model.language.logits(own, ANSWER)[0], ulps=ULPS)
    for beams in (1, 2):
        texts = model.language.generate(whole, max_new_tokens=5, num_beams=beams)
        assert texts == [model.language.generate(own, max_new_tokens=5, num_beams=beams)[0] for own in alone]
    likely = model.language.likelihood_scores(whole, [CHOICES] * len(ITEMS))
    for scores, own in zip(likely, alone, strict=True):
        single = model.language.likelihood_scores(own, [CHOICES])[0]
        assert_close_to_scale(torch.tensor(scores), torch.tensor(single), ulps=ULPS)
    lettered = [{**item, "choices": CHOICES} for item in ITEMS]
    for answer, item in zip(model.answer_many(lettered), lettered, strict=True):
        scores = model.answer_many([item])[0].scores
        assert answer.scores.keys() == scores.keys() == set(CHOICES)
        assert_close_to_scale(torch.tensor([*answer.scores.values()]), torch.tensor([*scores.values()]), ulps=ULPS)


def test_training_lowers_the_loss_by_the_adapters_alone(model: CremaModel) -> None:
    frozen = model.frozen_fingerprint()
    start = {name: own.clone() for name, own in model.trainable_parameters().items()}
    try:
        losses = train_a_little(model)
        assert all(loss == loss and loss < 1e3 for loss in losses)
        assert min(losses[1:]) < losses[0]
        assert model.frozen_fingerprint() == frozen
        assert not [name for name, own in model.backbone.named_parameters() if own.grad is not None]
        moved = [name for name, own in model.trainable_parameters().items() if not torch.equal(own, start[name])]
        assert any(name.startswith("modalities.wave") for name in moved)
    finally:
        with torch.no_grad():
            for name, own in model.trainable_parameters().items():
                own.copy_(start[name])
                own.requires_grad_(False)


def test_a_kind_known_to_fail_is_refused_before_its_weights_are_read(t5_folder: Path, tmp_path: Path) -> None:
    save_language_model(tmp_path, "rwkv")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        build([wave_spec()], backbone=t5_folder, language_model=tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' is a 'rwkv' language model: its own logits of a padded batch are not those of its samples. "
        "Accepted: the kinds of docs/backbones.md, and others whose answers do not depend on a batch. Try "
        "language_model='mistralai/Mistral-7B-v0.1' where the hub is reachable."
    )


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crema_core.model.language_override.known", lambda: Known((), {}))


@pytest.mark.usefixtures("nothing_known")
@pytest.mark.parametrize("kind", [KINDS[kind] for kind in REFUSED])
def test_an_unknown_kind_whose_answers_depend_on_the_batch_is_refused_with_what_differs(
    kind: str, t5_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_backbone(t5_folder, language_model=save_language_model(tmp_path, kind))
    text = str(caught.value)
    assert text.startswith(
        f"The language model type '{kind}' was tried on a question, and given its vectors beside a longer question it "
        "does not generate what it does from its ids alone: logits of up to "
    )
    assert text.endswith(
        "Accepted: the kinds of docs/backbones.md, and others that pass this test. Try "
        "language_model='mistralai/Mistral-7B-v0.1' where the hub is reachable."
    )


@pytest.mark.usefixtures("nothing_known")
@pytest.mark.parametrize("kind", ["llama", KINDS["gemma4_text"], KINDS["t5"]])
def test_an_unknown_kind_is_taken_where_it_passes(kind: str, t5_folder: Path, tmp_path: Path) -> None:
    folder = save_language_model(tmp_path, kind)
    assert load_backbone(t5_folder, language_model=folder).language_model.config.model_type == kind


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_known")
def test_an_unknown_kind_that_is_given_vectors_and_needs_ids_is_refused(
    t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crema_core.model.id_language.BY_ID", ())
    with pytest.raises(CheckpointError, match=r"'gemma3n_text' was tried on a question, .* logits of .* differ by"):
        load_backbone(t5_folder, language_model=save_language_model(tmp_path, "gemma3n_text"))


def test_every_kind_here_is_written_down_as_compared() -> None:
    assert [kind for kind in LANGUAGE_KINDS if kind not in REFUSED] == list(known().compared)
