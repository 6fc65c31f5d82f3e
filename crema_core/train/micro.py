"""A minibatch passes the language model in parts: their gradients add up to those of the whole.

What a frozen language model keeps for its backward pass is most of an update's memory, and it grows with the samples
read at once. A graph that was built for the whole minibatch runs backward once, when all parts have left their
gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from crema_core.model.trainable import collecting
from crema_core.tokens import SenseFeatures, SenseTokens
from crema_core.train.settings import MicroBatchSize


def size_in(setting: MicroBatchSize, sub_step: int) -> int | None:
    """Return the samples the language model reads at once in a sub-step, counted from 0; None: all of them.

    Example:
        >>> [size_in((2, 3, 8), sub_step) for sub_step in range(4)]
        [2, 3, 8, 8]
    """
    if isinstance(setting, tuple):
        return setting[min(sub_step, len(setting) - 1)]
    return setting


def micro_batches(num_samples: int, size: int | None) -> list[range]:
    """Return the samples of each part: `size` of them, fewer in the last one; None: all in one part.

    Example:
        >>> micro_batches(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    size = size or max(1, num_samples)
    return [range(start, min(start + size, num_samples)) for start in range(0, num_samples, size)]


def tokens_of(tokens: Mapping[str, SenseTokens], part: range) -> dict[str, SenseTokens]:
    """Return the tokens of a part's samples, without senses that none of them has."""
    found = {}
    for name, own in tokens.items():
        index = _positions(own.rows, part)
        if index.numel():
            found[name] = own.select(index, own.rows[index] - part.start)
    return found


def features_of(features: SenseFeatures, part: range) -> SenseFeatures | None:
    """Return the features of a part's samples; None where none of them has the sense."""
    index = _positions(features.rows, part)
    if not index.numel():
        return None
    return features.select(index, features.rows[index] - part.start)


@contextmanager
def collected(tokens: SenseTokens) -> Iterator[SenseTokens]:
    """Yield tokens that collect their gradient, and run the graph behind them backward at the end."""
    if not tokens.values.requires_grad:
        yield tokens
        return
    values = collecting(tokens.values)
    yield tokens.detach()._replace(values=values)
    if values.grad is not None:  # None: no part's loss depends on them
        torch.autograd.backward(tokens.values, values.grad)


def _positions(rows: Tensor, part: range) -> Tensor:
    return ((rows >= part.start) & (rows < part.stop)).nonzero()[:, 0]
