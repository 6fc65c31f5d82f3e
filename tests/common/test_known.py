"""Masks whose values the host knows: equal to ordinary ones, and never asked of the device."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crema_core.common.known import KnownTensor, known, on_host, plain, to_device, values_of
from tests.support.waits import listed, waits

NOWHERE = torch.device("meta")  # a device whose numbers nobody can read
MASK = torch.tensor([[True, False, True], [True, True, True]])
ROWS = torch.tensor([1, 0])
VALUES = torch.arange(12.0).view(2, 3, 2)

FOLLOWED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rows": lambda mask, rows: mask[rows],
    "masked": lambda mask, rows: mask[mask],
    "new axis": lambda mask, rows: mask[:, None],
    "slices": lambda mask, rows: mask[:, 1:],
    "not": lambda mask, rows: ~mask,
    "and": lambda mask, rows: mask & mask[rows],
    "or": lambda mask, rows: mask | mask.new_zeros(2, 3),
    "any": lambda mask, rows: mask.any(-1),
    "all": lambda mask, rows: mask.all(),
    "longest": lambda mask, rows: mask.sum(1).max(),
    "equal": lambda mask, rows: mask == mask[rows],
    "numbers": lambda mask, rows: mask.to(torch.int64) - 1,
    "subtracted": lambda mask, rows: 1 - mask.long(),
    "order": lambda mask, rows: torch.sort(mask.to(torch.uint8), dim=1, stable=True).indices,
    "gathered": lambda mask, rows: mask.gather(1, mask.long()),
    "positions": lambda mask, rows: mask.nonzero(),
    "second positions": lambda mask, rows: mask.nonzero(as_tuple=True)[1],
    "together": lambda mask, rows: torch.cat([mask, ~mask], dim=1),
    "stacked": lambda mask, rows: torch.stack([mask, mask]).any(0),
    "padded": lambda mask, rows: torch.nn.functional.pad(mask, (0, 2)),
    "spread": lambda mask, rows: mask.new_zeros(4, 3).index_copy(0, rows, mask),
    "present": lambda mask, rows: rows.new_zeros(4, dtype=torch.bool).index_fill(0, rows, True),
    "filled": lambda mask, rows: rows.masked_fill(rows == 0, -1),
    "flat": lambda mask, rows: mask[:, :, None].expand(-1, -1, 4).flatten(1),
    "one of several": lambda mask, rows: mask.unbind(0)[0],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_made_of_known_tensors_is_known_wherever_they_are(name: str) -> None:
    wanted = FOLLOWED[name](MASK, ROWS)
    for device in (torch.device("cpu"), NOWHERE):
        with waits() as found:
            got = FOLLOWED[name](to_device(MASK, device), to_device(ROWS, device))
            numbers = got.tolist()
        assert not found, listed(found)
        assert numbers == wanted.tolist()
        assert (got.device, got.dtype, got.shape) == (device, wanted.dtype, wanted.shape)


def test_what_a_program_asks_of_a_mask_is_answered_by_the_host() -> None:
    mask = to_device(MASK, NOWHERE)
    assert not bool(mask.all())
    assert int(mask.sum(1).max()) == 3
    assert float(mask.sum()) == 5.0
    assert mask[0, 1].item() is False
    assert mask.sum() == 5
    assert [bool(row.all()) for row in mask] == [False, True]
    assert list(range(9))[mask.sum()] == 5
    assert torch.equal(mask.cpu(), MASK)
    assert values_of(mask) is MASK


def test_a_known_mask_as_index_is_not_looked_for_on_the_device() -> None:
    mask, row = known([MASK, MASK[0]])
    with waits() as found:
        got = [VALUES[mask], VALUES[mask, 1], VALUES[0, row]]
        filled = VALUES.clone()
        filled[mask] = 0.0
    assert not found, listed(found)
    for own, wanted in zip(got, [VALUES[MASK], VALUES[MASK, 1], VALUES[0, MASK[0]]], strict=True):
        assert torch.equal(own, wanted)
    assert torch.equal(filled, torch.where(MASK[..., None], 0.0, VALUES))
    assert VALUES.to(NOWHERE)[to_device(MASK, NOWHERE)].shape == (5, 2)


def test_the_device_is_read_once_for_all_and_not_for_what_is_known() -> None:
    times = torch.tensor([[0.0, torch.nan]])
    with waits() as found:
        mask, rows, halves, clock = known([MASK, to_device(ROWS, MASK.device), VALUES.bfloat16(), times])
    assert [count for place, count in found.items() if place.startswith("cpu at ")] == [1], listed(found)
    assert (values_of(mask), values_of(rows)) != (None, None)
    assert values_of(halves) is None
    assert torch.equal(mask, MASK)
    assert clock.isnan().tolist() == [[False, True]]
    with waits() as found:
        known([mask, rows, clock])
    assert not found, listed(found)


def test_what_was_changed_in_place_is_no_longer_known() -> None:
    mask = to_device(MASK.clone(), torch.device("cpu"))
    row = mask[0]
    mask[0, 1] = True
    assert values_of(mask) is None
    assert values_of(row) is None
    assert bool(mask.all())
    assert MASK.tolist() == [[True, False, True], [True, True, True]]


def test_what_a_device_may_compute_otherwise_is_not_known() -> None:
    mask, times = known([MASK, torch.rand(2, 3, 2)])
    assert values_of(times.sum(1)) is None
    assert values_of(mask.float()) is None
    assert values_of(mask * torch.rand(3)) is None
    assert values_of(mask & torch.ones(3, dtype=torch.bool)) is None
    assert values_of(torch.sort(mask.long(), dim=1).indices) is None
    assert values_of(mask[:, None, :, None]) is None  # as masks of attention
    assert not isinstance(VALUES * mask[..., None], KnownTensor)


def test_a_copy_on_disk_or_in_memory_is_an_ordinary_tensor() -> None:
    (mask,) = known([MASK])
    file = io.BytesIO()
    torch.save(mask, file)
    file.seek(0)
    for own in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask)), torch.load(file), plain(mask)):
        assert type(own) is Tensor
        assert torch.equal(own, MASK)


def test_a_function_of_known_tensors_runs_on_the_host_and_changes_nothing_there() -> None:
    def count(mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        mask[:] = True
        return mask.sum(1), torch.unique(rows)

    places = on_host(count, to_device(MASK, NOWHERE), rows=to_device(ROWS, NOWHERE), device=NOWHERE)
    assert [own.device for own in places] == [NOWHERE, NOWHERE]
    assert MASK.tolist() == [[True, False, True], [True, True, True]]
    lengths, _ = on_host(count, MASK.clone(), rows=ROWS, device=MASK.device)
    assert lengths.tolist() == [3, 3]
