"""The tokens of one minibatch: every sense's are computed once, and again only after its own update.

A sense's parameters do not change before its own sub-step, so a graph built at the start of the minibatch is still
valid then. With n senses a minibatch costs n passes with graph and n - 1 refreshes without, instead of n * n. Up to
n - 1 graphs wait then beside the one in use; each that does not, because it is built in its own sub-step, costs one
pass more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch

from crema_core.api.model import CremaModel
from crema_core.tokens import SenseFeatures, SenseTokens
from crema_core.train.micro import collected, features_of, tokens_of
from crema_core.train.sync import Sync


class TokenBank:
    """Tokens of one minibatch, kept current.

    Args:
        model: a built model.
        features: encoded senses of the minibatch.
        questions: rendered texts of its samples, which a Q-Former may read.
        kept: senses whose graphs are built now and used in their sub-steps; others' are built when they are asked for.
        later: senses whose tokens nobody asks for before they are built with their graph.
        sync: the forward pass's number format.
    """

    def __init__(
        self,
        model: CremaModel,
        features: Mapping[str, SenseFeatures],
        questions: Sequence[str],
        *,
        kept: Collection[str],
        later: Collection[str] = (),
        sync: Sync,
    ) -> None:
        self.model, self.features, self.questions, self.sync = model, features, questions, sync
        self._graphs: dict[str, SenseTokens] = {}
        self._tokens: dict[str, SenseTokens] = {}
        for name, own in features.items():
            if name in kept:
                self._graphs[name] = self._compute(name, own, questions)
                self._tokens[name] = self._graphs[name].detach()
            elif name not in later:
                self.refresh(name)

    def parts(self, names: Collection[str], parts: Sequence[range]) -> Iterator[tuple[range, dict[str, SenseTokens]]]:
        """Yield each part's samples and the tokens of all senses they have, those of `names` with their graphs.

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
                tokens = tokens_of(known, part)
                for name in built_here:
                    own = features_of(self.features[name], part)
                    if own is not None:
                        tokens[name] = self._compute(name, own, self.questions[part.start : part.stop])
                yield part, tokens

    @torch.no_grad()
    def refresh(self, name: str) -> None:
        """Compute a sense's tokens anew, after its update."""
        self._tokens[name] = self._compute(name, self.features[name], self.questions)

    def _compute(self, name: str, features: SenseFeatures, questions: Sequence[str]) -> SenseTokens:
        with self.sync.forward_pass():
            return self.model.sense_tokens(name, features, questions)
