"""The tokens of one minibatch: every sense's are computed once, and again only after its own update.

A sense's parameters do not change before its own sub-step, so the graph built at the start of the minibatch is still
valid then. With n senses a minibatch costs n passes with graph and n - 1 refreshes without, instead of n * n. That
holds n graphs at once; a graph that is built in its own sub-step instead costs one pass more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from crema_core.model.crema import CremaModel
from crema_core.model.tokens import SenseFeatures, SenseTokens
from crema_core.train.sync import Sync


class TokenBank:
    """Tokens of one minibatch, kept current.

    Args:
        model: a built model.
        features: encoded senses of the minibatch.
        questions: rendered texts of its samples, which a Q-Former may read.
        kept: senses whose graphs are built now and used in their sub-steps; others' are built when they are asked for.
        sync: the forward pass's number format.
    """

    def __init__(
        self,
        model: CremaModel,
        features: Mapping[str, SenseFeatures],
        questions: Sequence[str],
        *,
        kept: Collection[str],
        sync: Sync,
    ) -> None:
        self.model, self.features, self.questions, self.sync = model, features, questions, sync
        self._graphs: dict[str, SenseTokens] = {}
        self._tokens: dict[str, SenseTokens] = {}
        for name in features:
            if name in kept:
                self._graphs[name] = self._compute(name)
                self._tokens[name] = self._graphs[name].detach()
            else:
                self.refresh(name)

    def tokens(self, name: str) -> dict[str, SenseTokens]:
        """Return all senses' tokens, those of `name` with their graph (which is handed over), the others without."""
        if name not in self.features:
            return dict(self._tokens)
        graph = self._graphs.pop(name) if name in self._graphs else self._compute(name)
        return self._tokens | {name: graph}

    def all_tokens(self) -> dict[str, SenseTokens]:
        """Return all senses' tokens, those of the active ones with their graphs; for one update of all senses."""
        return self._tokens | self._graphs

    @torch.no_grad()
    def refresh(self, name: str) -> None:
        """Compute a sense's tokens anew, after its update."""
        self._tokens[name] = self._compute(name)

    def _compute(self, name: str) -> SenseTokens:
        with self.sync.forward_pass():
            return self.model.sense_tokens(name, self.features[name], self.questions)
