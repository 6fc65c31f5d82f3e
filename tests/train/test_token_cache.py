"""Parts of a minibatch: every sample is in one, with its own tokens, and their gradients add up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crema_core.modality import Features
from crema_core.tokens import ModalityFeatures, ModalityTokens
from crema_core.train.token_cache import collected, micro_batches, part_of, size_in

ROWS = st.lists(st.integers(0, 11), unique=True, max_size=12).map(sorted)


def tokens(rows: list[int]) -> ModalityTokens:
    """Every sample's tokens, times and weights are its own number."""
    own = torch.tensor(rows, dtype=torch.int64)
    values = own.float()[:, None, None, None].expand(-1, 2, 3, 4)
    times = own.float()[:, None, None].expand(-1, 2, 2)
    return ModalityTokens(values, own[:, None].expand(-1, 2) > 3, own, times, extras={"weights": own.float()[:, None]})


@given(num=st.integers(0, 40), size=st.one_of(st.none(), st.integers(1, 50)))
def test_every_sample_is_in_one_part_and_only_the_last_is_smaller(num: int, size: int | None) -> None:
    parts = micro_batches(num, size)
    assert [sample for part in parts for sample in part] == list(range(num))
    assert all(len(own) == size for own, _ in pairwise(parts))
    assert all(0 < len(part) <= (size or num) for part in parts)


def test_a_sub_step_has_its_own_size_or_the_last_one() -> None:
    assert [size_in((2, 3), sub_step) for sub_step in range(4)] == [2, 3, 3, 3]
    assert [size_in(2, sub_step) for sub_step in range(2)] == [2, 2]
    assert size_in(None, 1) is None


@given(modalities=st.dictionaries(st.sampled_from("abc"), ROWS), size=st.integers(1, 13))
def test_a_part_has_its_samples_tokens_and_no_others(modalities: dict[str, list[int]], size: int) -> None:
    whole = {name: tokens(rows) for name, rows in modalities.items()}
    for part in micro_batches(12, size):
        parts = {name: part_of(own, part) for name, own in whole.items()}
        found = {name: own for name, own in parts.items() if own is not None}
        assert set(found) == {name for name, rows in modalities.items() if set(rows) & set(part)}
        for name, own in found.items():
            expected = tokens([row for row in modalities[name] if row in part])
            assert torch.equal(own.rows + part.start, expected.rows)
            assert torch.equal(own.values, expected.values)
            assert torch.equal(own.mask, expected.mask)
            for some, others in ((own.times, expected.times), (own.extras["weights"], expected.extras["weights"])):
                assert some is not None
                assert others is not None
                assert torch.equal(some, others)


@given(rows=ROWS, size=st.integers(1, 13), clocked=st.booleans())
def test_a_part_has_its_samples_features_and_no_others(rows: list[int], size: int, clocked: bool) -> None:
    values, mask, own, times, *_ = tokens(rows)
    features = ModalityFeatures(Features(values, mask, times if clocked else None), own)
    for part in micro_batches(12, size):
        found = part_of(features, part)
        inside = [row for row in rows if row in part]
        assert (found is None) == (not inside)
        if found is not None:
            assert (found.rows + part.start).tolist() == inside
            assert found.features.values[:, 0, 0, 0].tolist() == inside
            assert found.features.mask[:, 0].tolist() == [row > 3 for row in inside]
            assert (found.features.times is not None) == clocked


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gradients_collected_from_parts_are_those_of_the_whole(size: int) -> None:
    weight = torch.arange(1.0, 6.0).view(5, 1, 1, 1).requires_grad_()
    own = tokens([0, 1, 2, 3, 4])._replace(values=weight * torch.ones(5, 2, 3, 4))
    with collected(own) as collecting:
        for part in micro_batches(5, size):
            own_part = part_of(collecting, part)
            assert own_part is not None
            (own_part.values**2).sum().backward()
        assert weight.grad is None
    assert weight.grad is not None
    assert torch.equal(weight.grad, 24 * 2 * weight.detach())


def test_tokens_without_a_graph_or_a_loss_collect_nothing() -> None:
    plain = tokens([0])
    with collected(plain) as same:
        assert same is plain
    weight = torch.ones(1, requires_grad=True)
    with collected(plain._replace(values=plain.values * weight)):
        pass
    assert weight.grad is None


def test_a_loss_that_fails_runs_no_graph_backward() -> None:
    weight = torch.ones(1, requires_grad=True)
    own = tokens([1])

    def fail() -> None:
        with collected(own._replace(values=own.values * weight)) as collecting:
            collecting.values.sum().backward()
            raise RuntimeError("not finite")

    with pytest.raises(RuntimeError, match=r"^not finite$"):
        fail()
    assert weight.grad is None
