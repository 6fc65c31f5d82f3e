"""Several questions about one source: its features and tokens are computed once for a batch.

Data sets ask five to ten questions about a clip, and their order keeps them together. What is computed once here gives
each question the numbers it would get alone, since no sample of a batch changes another's.

Shape letters: R rows of a batch that have a modality, T steps, N tokens of a step, D feature width, Q queries, L width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from crema_core.common.known import to_device
from crema_core.tokens import ModalityFeatures, ModalityTokens

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork


class Sharing(NamedTuple):
    """Which rows have the same source."""

    firsts: list[int]  # positions of the first row of each source
    owner: list[int]  # for every row, the index into `firsts` of its source


def sharing(keys: Iterable[Hashable]) -> Sharing:
    """Find equal keys, one per row; equal ones have the same source."""
    found: dict[Hashable, int] = {}
    firsts, owner = [], []
    for position, key in enumerate(keys):
        if key not in found:
            found[key] = len(found)
            firsts.append(position)
        owner.append(found[key])
    return Sharing(firsts, owner)


def shared_tokens(
    model: CremaNetwork,
    features: Mapping[str, ModalityFeatures],
    questions: Sequence[str],
    keys: Mapping[str, Sequence[Hashable]],
) -> dict[str, ModalityTokens]:
    """Return the tokens of all modalities of a batch, each source's computed once.

    Args:
        model: whose adapters compute them.
        features: of all R rows of each modality.
        questions: rendered texts of all samples.
        keys: by modality, one key for each of its R rows; equal ones have equal features.
    """
    tokens = {}
    for name, own in features.items():
        rows = own.rows.tolist()
        # A Q-Former that reads the question gives other tokens for another question.
        same = sharing(
            (key, questions[row] if model.reads_questions else "") for key, row in zip(keys[name], rows, strict=True)
        )
        firsts = own.rows[to_device(torch.tensor(same.firsts), own.rows.device)]
        few = model.modality_tokens(name, spread_features(own, same.firsts, firsts), questions)
        tokens[name] = few
        if len(same.owner) != few.values.shape[0]:
            tokens[name] = few.select(to_device(torch.tensor(same.owner), few.values.device), own.rows)
    return tokens


def spread_features(few: ModalityFeatures, owner: Sequence[int], rows: Tensor) -> ModalityFeatures:
    """Return the features of all rows from those of distinct sources.

    Args:
        few: one `(T, N, D)` per source.
        owner: for every row, the index of its source.
        rows: `(R,)` samples of the batch the rows belong to.
    """
    if list(owner) == list(range(few.rows.shape[0])):  # nothing is shared, and features are large
        return few
    index = to_device(torch.tensor(owner), few.features.values.device)
    return few.select(index, rows.to(index.device))
