"""Which samples come when, and which modalities are left out: pure functions of the seed and the position.

Nothing here remembers anything, so training can stop at any minibatch and continue elsewhere with the same numbers; no
global random state is read or changed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

Entry = TypeVar("Entry")

_RANGE = 2**63


def derive_seed(*parts: int | str) -> int:
    """Return a seed in 0..2**63-1 that depends on every part and on nothing else."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % _RANGE


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> list[int]:
    """Return the indices 0..num_samples-1 in the order in which `epoch` visits them."""
    order = list(range(num_samples))
    random.Random(derive_seed("order", seed, epoch)).shuffle(order)
    return order


def cut(order: Sequence[Entry], size: int) -> list[list[Entry]]:
    """Return `order` in pieces of `size`; the last one may be smaller."""
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


def kept_modalities(
    present: Sequence[str], *, seed: int, epoch: int, index: int, dropout: float, major: str, drop_major: bool = False
) -> tuple[str, ...]:
    """Return the modalities a sample keeps under modality dropout.

    Each modality's draw depends on (seed, epoch, index, its name), so another modality in the model changes no other
    draw. A sample that has a modality always keeps at least one.

    Args:
        present: the modalities the sample has.
        seed: of the run.
        epoch: 0-based.
        index: the sample's index in the data file.
        dropout: probability with which each supporting modality is dropped.
        major: the major modality, kept unless `drop_major`.
        drop_major: whether the major modality is dropped like the others.
    """
    draws = {name: derive_seed("drop", seed, epoch, index, name) / _RANGE for name in present}
    kept = tuple(name for name in present if draws[name] >= dropout or (name == major and not drop_major))
    if kept or not present:
        return kept
    return (max(present, key=draws.__getitem__),)
