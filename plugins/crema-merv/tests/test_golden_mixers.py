"""Every mixer against the released code, on its own tensors: mixes, weights and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.common.tensors import copy_state
from crema_merv.merv import make_mixer
from crema_merv.mixers import CrossAttentionMixer, Mixer
from crema_merv.released import describe_mixer, mixer_state
from crema_merv.released_mixer import ReleasedMixer
from tests.support.merv import load, mixed, released_fusion
from tests.support.numeric import assert_close_to_scale, largest

ABOUT, TENSORS = load("fusion")
ATTENTIONS: dict[str, dict[str, Any]] = {
    "cross_attention_avg_lq": {},
    "cross_attention_all_tokens": {"num_tokens": 16},
    "cross_attention_avg_lq_positional": {"positional": True},
    "cross_attention_avg_lq_equal_widths": {"inner_width": 16},
    "cross_attention_single_token_encoder": {},
}
OTHERS = {"concat_channel": "channel", "concat_channel_ln": "channel_norm", "scalar": "scalar"}
WITHOUT_WEIGHTS = {"concat_sequence": "concat", "fixed_mixing_DEFINITION": "average"}


def sequences(case: str = "") -> list[Tensor]:
    values = [TENSORS[f"in_{index}"] for index in range(4)]
    if case == "cross_attention_single_token_encoder":
        values[1] = TENSORS[f"case/{case}/in_1_single_token"]
    return [value.double().requires_grad_() for value in values]


def weights_of(case: str) -> dict[str, Tensor]:
    same = {"cross_attention_single_token_encoder": "cross_attention_avg_lq"}
    return released_fusion(TENSORS, same.get(case, case))


def attention(case: str, *, collapse: bool) -> Mixer:
    kind = CrossAttentionMixer if collapse else ReleasedMixer
    mixer = kind(4, width=ABOUT["llm_width"], **{"inner_width": 12, **ATTENTIONS[case]})
    copy_state(dict(mixer.named_parameters()), mixer_state(weights_of(case), collapse=collapse))
    return mixer.double()


def check_against(case: str, mixer: Mixer) -> None:
    golden = {key.removeprefix(f"case/{case}/"): value for key, value in TENSORS.items()}
    values = sequences(case)
    result = mixed(mixer, values)
    assert_close_to_scale(result.values.flatten(1, 2), golden["out"])
    if "mix_weights" in golden:
        assert result.weights is not None
        assert_close_to_scale(result.weights, golden["mix_weights"].expand(2, -1))
    (result.values.flatten(1, 2) * golden["loss_weights"]).sum().backward()
    expected = [golden[f"grad_in_{index}"] for index in range(len(values))]
    for value, gradient in zip(values, expected, strict=True):
        assert value.grad is not None
        assert_close_to_scale(value.grad, gradient, scale=largest(*expected))


def test_every_golden_case_is_tested() -> None:
    assert {*ATTENTIONS, *OTHERS, *WITHOUT_WEIGHTS, "first"} == set(ABOUT["cases"])


@pytest.mark.parametrize("collapse", [True, False], ids=["one vector", "released weights"])
@pytest.mark.parametrize("case", ATTENTIONS)
def test_the_mixer_with_a_learned_query_is_the_released_one(case: str, collapse: bool) -> None:
    check_against(case, attention(case, collapse=collapse))


@pytest.mark.parametrize("case", [case for case in ATTENTIONS if case != "cross_attention_single_token_encoder"])
def test_released_weights_get_the_released_gradients(case: str) -> None:
    mixer = attention(case, collapse=False)
    result = mixed(mixer, sequences())
    (result.values.flatten(1, 2) * TENSORS[f"case/{case}/loss_weights"]).sum().backward()
    start = f"case/{case}/param_grad/"
    golden = {key.removeprefix(start): value for key, value in TENSORS.items() if key.startswith(start)}
    expected = mixer_state(golden, collapse=False)
    for name, parameter in mixer.named_parameters():
        assert_close_to_scale(parameter.grad, expected[name], scale=largest(*expected.values()), name=name)


@pytest.mark.parametrize("case", ATTENTIONS)
def test_a_mixer_of_released_weights_collapses_to_one_vector(case: str) -> None:
    mixer = attention(case, collapse=False)
    assert isinstance(mixer, ReleasedMixer)
    check_against(case, mixer.collapse().double())


@pytest.mark.parametrize("case", OTHERS)
def test_other_mixers_are_the_released_ones(case: str) -> None:
    assert describe_mixer(weights_of(case)) == OTHERS[case]
    mixer = make_mixer(OTHERS[case], 4, width=ABOUT["llm_width"])
    copy_state(dict(mixer.named_parameters()), mixer_state(weights_of(case)))
    check_against(case, mixer.double())
    start = f"case/{case}/param_grad/"
    golden = {key.removeprefix(start): value for key, value in TENSORS.items() if key.startswith(start)}
    expected = mixer_state(golden)
    for name, parameter in mixer.named_parameters():
        assert_close_to_scale(parameter.grad, expected[name], scale=largest(*expected.values()), name=name)


@pytest.mark.parametrize("case", WITHOUT_WEIGHTS)
def test_mixers_without_weights_are_the_released_ones(case: str) -> None:
    mixer = make_mixer(WITHOUT_WEIGHTS[case], 4, width=ABOUT["llm_width"])
    assert not list(mixer.parameters())
    result = mixed(mixer, sequences())
    assert_close_to_scale(result.values.flatten(1, 2), TENSORS[f"case/{case}/out"])


def test_the_first_encoder_alone_is_a_mix_of_one() -> None:
    present = torch.tensor([[True, False, False, False]]).expand(2, -1)
    result = mixed(attention("cross_attention_avg_lq", collapse=True), sequences(), present=present)
    assert_close_to_scale(result.values.flatten(1, 2), TENSORS["case/first/out"])
