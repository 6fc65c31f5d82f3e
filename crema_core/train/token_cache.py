"""The tokens of one minibatch: every modality's are computed once, and again only after its own update.

A modality's parameters do not change before its own sub-step, so a graph built at the start of the minibatch is still
valid then. With n modalities a minibatch costs n passes with graph and n - 1 refreshes without, instead of n * n. Up to
n - 1 graphs wait then beside the one in use; each that does not, because it is built in its own sub-step, costs one
pass more.

A minibatch may pass the language model in parts, whose gradients add up to those of the whole. What a frozen language
model keeps for its backward pass is most of an update's memory, and it grows with the samples read at once. A graph
that was built for the whole minibatch runs backward once, when all parts have left their gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch

from crema_core.api.model import CremaModel
from crema_core.model.trainable import collecting
from crema_core.tokens import ModalityInput, ModalityTokens, known_inputs
from crema_core.train.distributed import Distributed
from crema_core.train.settings import MicroBatchSize

OfSamples = TypeVar("OfSamples", ModalityTokens, ModalityInput)


class TokenCache:
    """Tokens of one minibatch, kept current.

    Args:
        model: a built model.
        features: encoded modalities of the minibatch, and what trainable encoders read: these run when the modality's
            tokens are computed, with its graph.
        questions: rendered texts of its samples, which a Q-Former may read.
        kept: modalities whose graphs are built now and used in their sub-steps; others' are built when they are asked
            for.
        later: modalities whose tokens nothing needs before they are built with their graph.
        distributed: the forward pass's number format.
    """

    def __init__(
        self,
        model: CremaModel,
        features: Mapping[str, ModalityInput],
        questions: Sequence[str],
        *,
        kept: Collection[str],
        later: Collection[str] = (),
        distributed: Distributed,
    ) -> None:
        self.model, self.questions, self.distributed = model, questions, distributed
        # Read from the device once here, and in none of the sub-steps.
        self.features: dict[str, ModalityInput] = known_inputs(features)
        self._graphs: dict[str, ModalityTokens] = {}
        self._tokens: dict[str, ModalityTokens] = {}
        for name, own in self.features.items():
            if name in kept:
                self._graphs[name] = self._compute(name, own, questions)
                self._tokens[name] = self._graphs[name].detach()
            elif name not in later:
                self.refresh(name)

    def parts(
        self, names: Collection[str], parts: Sequence[range]
    ) -> Iterator[tuple[range, dict[str, ModalityTokens]]]:
        """Yield each part's samples and the tokens of all modalities they have, those of `names` with their graphs.

        A kept graph is handed over: where there are several parts it runs backward when this iterator has come to its
        end, from what the parts' backward passes have left. A graph that was not kept is built part by part.
        """
        graphs = {name: self._graphs.pop(name) for name in names if name in self._graphs}
        built_here = [name for name in names if name in self.features and name not in graphs]
        others = {name: own for name, own in self._tokens.items() if name not in built_here}
        if len(parts) == 1:
            built = {name: self._compute(name, self.features[name], self.questions) for name in built_here}
            yield parts[0], others | graphs | built
            return
        with ExitStack() as stack:
            known = others | {name: stack.enter_context(collected(own)) for name, own in graphs.items()}
            for part in parts:
                questions = self.questions[part.start : part.stop]
                tokens = {name: part_of(own, part) for name, own in known.items()}
                for name in built_here:
                    own = part_of(self.features[name], part)
                    tokens[name] = None if own is None else self._compute(name, own, questions)
                yield part, {name: own for name, own in tokens.items() if own is not None}

    @torch.no_grad()
    def refresh(self, name: str) -> None:
        """Compute a modality's tokens anew, after its update."""
        self._tokens[name] = self._compute(name, self.features[name], self.questions)

    def _compute(self, name: str, features: ModalityInput, questions: Sequence[str]) -> ModalityTokens:
        with self.distributed.forward_pass():
            return self.model.modality_tokens(name, features, questions)


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


def part_of(own: OfSamples, part: range) -> OfSamples | None:
    """Return the tokens, features or prepared sources of a part's samples; None where none of them has the modality."""
    index = ((own.rows >= part.start) & (own.rows < part.stop)).nonzero()[:, 0]
    return own.select(index, own.rows[index] - part.start) if index.numel() else None


@contextmanager
def collected(tokens: ModalityTokens) -> Iterator[ModalityTokens]:
    """Yield tokens that collect their gradient, and run the graph behind them backward at the end."""
    if not tokens.values.requires_grad:
        yield tokens
        return
    values = collecting(tokens.values)
    yield tokens.detach()._replace(values=values)
    if values.grad is not None:  # None: no part's loss depends on them
        torch.autograd.backward(tokens.values, values.grad)
