"""Equal to the released code on its own tensors: tokens, prompt, loss, logits, gradients and generated answers.

The weights come in under the released names and go through `crema_benchmarks.released`. Set CREMA_GOLDEN to a folder
with more cases (the same file layout) to test those instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crema_core.model.trainable import names_of, set_trainable
from tests.support.golden import DATA, Case, load_case, released
from tests.support.numeric import assert_close_to_scale, double_precision, largest

CASES = sorted(
    path.stem
    for path in DATA.glob("*.json")
    if "modalities_in_order" in (about := json.loads(path.read_text())) and "text" in about
)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load_case(request.param, tmp_path_factory.getbasetemp() / f"golden-{request.param}", dtype=torch.float64)


def test_there_are_golden_cases() -> None:
    assert len(CASES) >= 7


def test_projected_tokens_of_every_modality(case: Case) -> None:
    for name, tokens in case.tokens().items():
        expected = case.tensors[f"projected.{name.removeprefix('g_')}"]
        assert_close_to_scale(tokens.values.reshape(expected.shape), expected)


def test_the_language_models_input_and_mask(case: Case) -> None:
    prompt = case.model.prompt(case.tokens(), case.questions)
    mask = case.tensors["llm.attention_mask"].bool()
    assert torch.equal(prompt.mask, mask[:, : prompt.mask.shape[1]])
    assert not bool(mask[:, prompt.mask.shape[1] :].any())
    expected = case.tensors["llm.inputs_embeds"][:, : prompt.mask.shape[1]]
    assert_close_to_scale(prompt.embeds[prompt.mask], expected[prompt.mask])


@pytest.mark.parametrize("name", ["rgb", "rgb_depth_concat"])
def test_a_modality_without_lora_is_the_released_codes_skip(name: str, tmp_path: Path) -> None:
    # "rgb-skip" keeps queries, norm and projection of rgb and leaves its LoRA out, and no other modality's: the same as
    # the released weights with a LoRA that adds nothing.
    skipped = load_case(name, tmp_path / "skipped", dtype=torch.float64, without_lora=["rgb"])
    whole = load_case(name, tmp_path / "whole", dtype=torch.float64)
    assert skipped.model.lora_parameters("g_rgb") == {}
    with torch.no_grad(), double_precision():
        found, trained = skipped.tokens(), whole.tokens()
        for key, matrix in whole.model.lora_parameters("g_rgb").items():
            if key.endswith(".B"):
                matrix.zero_()
        expected = whole.tokens()
        losses = [
            case.model.loss(tokens, case.questions, case.answers)
            for case, tokens in ((skipped, found), (whole, expected), (whole, trained))
        ]
    assert found.keys() == expected.keys()
    for own, values in found.items():
        assert_close_to_scale(values.values, expected[own].values)
    assert_close_to_scale(losses[0].reshape(1), losses[1].reshape(1))
    assert abs(float(losses[0] - losses[2])) > 1e-4, "the released LoRA says something"


def test_logits_and_loss(case: Case) -> None:
    prompt = case.model.prompt(case.tokens(), case.questions)
    labels = case.tensors["llm.labels"]
    assert torch.equal(case.model.language.answer_ids(case.answers), labels)
    with double_precision():
        logits = case.model.language.logits(prompt, labels)
        loss = case.model.loss(case.tokens(), case.questions, case.answers)
    assert_close_to_scale(logits, case.tensors["llm.logits"])
    assert_close_to_scale(loss.reshape(1), case.tensors["llm.loss"])


def test_every_trainable_gradient(case: Case) -> None:
    model = case.model
    parameters = model.trainable_parameters()
    set_trainable(model, names_of(model, parameters.values()))
    model.zero_grad()
    with double_precision():
        model.loss(case.tokens(), case.questions, case.answers).backward()
    with torch.no_grad():
        for parameter in parameters.values():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)  # so that the way back to the released names carries the gradients
    gradients = released.export_released(model)
    expected = {key.removeprefix("grad."): value for key, value in case.tensors.items() if key.startswith("grad.")}
    unused = {f"ln_{name}.{end}" for name in case.names for end in ("weight", "bias")} - gradients.keys()
    assert expected.keys() - unused == gradients.keys()
    for key, gradient in gradients.items():
        assert_close_to_scale(gradient, expected[key], scale=largest(*expected.values()), name=key)
