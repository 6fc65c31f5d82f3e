"""Encoders of different lengths on common steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from crema_core.errors import OptionsError
from crema_merv.alignment import align_encoders, step_weights
from crema_merv.projectors import Projected
from tests.support.numeric import assert_close_to_scale, largest

counts = st.integers(1, 9)


def encoder(values: list[float], *, pad: int = 0, tokens: int = 1) -> Projected:
    """One sample whose steps hold one number each, and padded steps of 0."""
    steps = torch.tensor([*values, *([0.0] * pad)]).float().reshape(1, -1, 1, 1).expand(-1, -1, tokens, -1)
    return Projected(steps, torch.tensor([[True] * len(values) + [False] * pad]))


def numbers(values: torch.Tensor) -> list[float]:
    return [round(number, 4) for number in values[0, :, 0, 0].tolist()]


def test_as_many_steps_as_wanted_are_not_copied() -> None:
    encoders = [encoder([1, 2, 3]), encoder([4, 5, 6])]
    aligned = align_encoders(encoders)
    assert all(own is before.values for own, before in zip(aligned.values, encoders, strict=True))
    assert aligned.mask.tolist() == [[True] * 3]
    assert aligned.present.tolist() == [[True, True]]


def test_fewer_steps_are_stretched_and_a_single_one_repeated() -> None:
    encoders = [encoder([1, 2, 3, 4]), encoder([1, 3]), encoder([7])]
    averaged = align_encoders(encoders).values
    assert [numbers(values) for values in averaged] == [[1, 2, 3, 4], [1, 1, 3, 3], [7, 7, 7, 7]]
    interpolated = align_encoders(encoders, rule="linear").values
    assert [numbers(values) for values in interpolated] == [[1, 2, 3, 4], [1, 1.5, 2.5, 3], [7, 7, 7, 7]]


def test_more_steps_are_averaged_by_overlap() -> None:
    aligned = align_encoders([encoder([0, 3, 6]), encoder([1, 2, 3, 4])], num_steps=2)
    assert [numbers(values) for values in aligned.values] == [[1, 5], [1.5, 3.5]]


def test_every_sample_is_as_long_as_its_longest_encoder() -> None:
    first = Projected(torch.ones(2, 4, 1, 1), torch.tensor([[True, False, False, False], [True] * 4]))
    second = Projected(torch.ones(2, 3, 1, 1), torch.tensor([[True, True, False], [True, False, False]]))
    aligned = align_encoders([first, second])
    assert aligned.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert [values[:, :, 0, 0].tolist() for values in aligned.values] == [[[1, 1, 0, 0], [1] * 4]] * 2


def test_an_absent_encoder_is_zero_and_does_not_make_a_sample_longer() -> None:
    encoders = [encoder([1, 2]), encoder([5, 5, 5])]
    aligned = align_encoders(encoders, torch.tensor([[True, False]]))
    assert aligned.mask.tolist() == [[True, True, False]]
    assert [numbers(values) for values in aligned.values] == [[1, 2, 0], [0, 0, 0]]
    masked = Projected(encoders[1].values, torch.zeros(1, 3, dtype=torch.bool))
    assert align_encoders([encoders[0], masked]).present.tolist() == [[True, False]]


def test_a_single_token_stands_beside_many() -> None:
    aligned = align_encoders([encoder([1, 2], tokens=4), encoder([3])])
    assert [tuple(values.shape) for values in aligned.values] == [(1, 2, 4, 1)] * 2
    assert aligned.values[1].eq(3).all()


@settings(max_examples=60, deadline=None)
@given(own=counts, wanted=counts, pads=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_every_wanted_step_is_an_average_of_real_steps(own: int, wanted: int, pads: tuple[int, int]) -> None:
    for rule in ("average", "linear"):
        weights = step_weights(torch.tensor([own]), torch.tensor([wanted]), own + pads[0], wanted + pads[1], rule=rule)
        expected = (torch.arange(wanted + pads[1]) < wanted).float()
        assert_close_to_scale(weights.sum(2)[0], expected, scale=1)
        assert weights.ge(0).all()
        assert weights[..., own:].eq(0).all()
        if own == wanted:
            assert torch.equal(weights[0, :own, :own], torch.eye(own))


@settings(max_examples=40, deadline=None)
@given(own=counts, wanted=counts)
def test_interpolation_is_that_of_torch(own: int, wanted: int) -> None:
    values = torch.randn(1, 1, own, dtype=torch.float64)
    expected = F.interpolate(values, size=wanted, mode="linear", align_corners=False)
    weights = step_weights(torch.tensor([own]), torch.tensor([wanted]), own, wanted, rule="linear")
    # The weights are float32: two of them, and places as large as the number of steps.
    assert_close_to_scale(weights[0].double() @ values[0, 0], expected[0, 0].float(), scale=own * largest(values))


@settings(max_examples=40, deadline=None)
@given(own=counts, wanted=counts)
def test_averaging_keeps_the_mean_of_the_whole_clip(own: int, wanted: int) -> None:
    values = torch.randn(own, dtype=torch.float64)
    weights = step_weights(torch.tensor([own]), torch.tensor([wanted]), own, wanted)
    assert_close_to_scale((weights[0].double() @ values).mean(), values.mean().float(), scale=largest(values))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        align_encoders([encoder([1])], rule="lineer")
    assert str(caught.value) == (
        "'lineer' is no rule that aligns encoders in time. Accepted: average, linear. Did you mean 'linear'? Use "
        "'average'."
    )
