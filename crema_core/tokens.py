"""What travels between the model's parts: prepared, encoded and projected modalities of one batch.

A batch holds, for every modality, only the samples that have it; `rows` states which. A modality that no sample has is
absent from the mapping, so nothing is computed for it and nothing depends on it.

Shape letters: B samples of the batch, R of them that have the modality, T steps, Q queries, L language-model width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from crema_core.common.known import known
from crema_core.modality import Batch, Features

OWN_IDS = "ids"
"""Name among the extras of a vision-language model's own visual tokens: ids of the text around and between them."""
OWN_LAYOUT = "layout"
"""Name among these of `(R, V, 2)`: rows and columns of every step's tokens, one row where they make no grid. A step
may have tokens behind its grid that belong to no frame."""


class ModalityBatch(NamedTuple):
    """Prepared sources of one modality."""

    batch: Batch  # R prepared and padded sources
    rows: Tensor  # `(R,)` int64, the samples they belong to
    labels: tuple[str, ...] = ()  # how messages name these R samples and their sources; empty: not at all

    def to(self, device: torch.device) -> ModalityBatch:
        """Return the same on `device`."""
        return ModalityBatch(self.batch.to(device), self.rows.to(device), self.labels)

    def select(self, index: Tensor, rows: Tensor) -> ModalityBatch:
        """Return the samples at the positions `index` `(S,)`, in that order, as those of `rows` `(S,)`."""
        labels = tuple(self.labels[position] for position in index.tolist()) if self.labels else ()
        return ModalityBatch(self.batch.select(index), rows, labels)

    def small(self) -> list[Tensor]:
        """Return what `with_small` replaces."""
        return [self.batch.mask, self.rows]

    def with_small(self, tensors: Iterable[Tensor]) -> ModalityBatch:
        """Return the same with other tensors in place of those of `small`, in their order."""
        mask, rows = tensors
        return self._replace(batch=replace(self.batch, mask=mask), rows=rows)


class ModalityFeatures(NamedTuple):
    """Output of one encoder.

    Attributes:
        features: R samples, see `Features`.
        rows: `(R,)` int64.
    """

    features: Features
    rows: Tensor

    @property
    def steps(self) -> Tensor:
        """Real steps, `(R, T)` bool: those with at least one real token."""
        mask = self.features.mask
        return mask if mask.dim() == 2 else mask.any(-1)

    def select(self, index: Tensor, rows: Tensor) -> ModalityFeatures:
        """Return the samples at the positions `index` `(S,)`, in that order, as those of `rows` `(S,)`."""
        values, mask, times, extras = self.features
        own = Features(
            values[index],
            mask[index],
            None if times is None else times[index],
            {name: extra[index] for name, extra in extras.items()},
        )
        return ModalityFeatures(own, rows)

    def small(self) -> list[Tensor]:
        """Return what `with_small` replaces: all but the values, and extras as large as these."""
        _, mask, times, extras = self.features
        return [self.rows, mask, *([] if times is None else [times]), *_small_extras(extras).values()]

    def with_small(self, tensors: Iterable[Tensor]) -> ModalityFeatures:
        """Return the same with other tensors in place of those of `small`, in their order."""
        values, _, times, extras = self.features
        given = iter(tensors)
        rows, mask = next(given), next(given)
        times = None if times is None else next(given)
        extras = {**extras, **dict(zip(_small_extras(extras), given, strict=True))}
        return ModalityFeatures(Features(values, mask, times, extras), rows)


ModalityInput = ModalityFeatures | ModalityBatch
"""What a modality's tokens are made of: features, or prepared sources where the encoder is trained with the adapter."""
Input = TypeVar("Input", bound=ModalityInput)


def known_inputs(inputs: Mapping[str, Input]) -> dict[str, Input]:
    """Return the same, with masks, rows, times and layouts whose values the host knows too.

    The device is read once for all of them, see `crema_core.common.known`.
    """
    small = {name: own.small() for name, own in inputs.items()}
    found = iter(known([tensor for own in small.values() for tensor in own]))
    return {name: cast(Input, own.with_small(islice(found, len(small[name])))) for name, own in inputs.items()}


def _small_extras(extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: own for name, own in extras.items() if own.dim() <= 2 or not own.is_floating_point()}


class ModalityTokens(NamedTuple):
    """One modality in the language model's space, before fusion.

    Attributes:
        values: `(R, T, Q, L)`; features of their own width where the modality's connector hands them on as they are.
        mask: `(R, T)` bool, real steps.
        rows: `(R,)` int64.
        times: `(R, T, 2)` seconds, or None.
        token_mask: `(R, T, Q)` bool where tokens inside a step are padded too, else None.
        extras: further tensors `(R, ...)` that the modality's connector hands to its strategy or to reports, by name.
    """

    values: Tensor
    mask: Tensor
    rows: Tensor
    times: Tensor | None = None
    token_mask: Tensor | None = None
    extras: Mapping[str, Tensor] = {}

    def detach(self) -> ModalityTokens:
        """Return the tokens without their graph."""
        extras = {name: extra.detach() for name, extra in self.extras.items()}
        return self._replace(values=self.values.detach(), extras=extras)

    def select(self, index: Tensor, rows: Tensor) -> ModalityTokens:
        """Return the samples at the positions `index` `(S,)`, in that order, as those of `rows` `(S,)`."""
        times, token_mask = (None if one is None else one[index] for one in (self.times, self.token_mask))
        extras = {name: extra[index] for name, extra in self.extras.items()}
        return ModalityTokens(self.values[index], self.mask[index], rows, times, token_mask, extras)


class Segment(NamedTuple):
    """A stretch of the prompt, as a fusion lays it out.

    Attributes:
        values: `(B, T, K, L)`, K tokens at each of T steps.
        mask: `(B, T)` bool, False where a sample has no such step, or `(B, T, K)` where it lacks some of the tokens.
        prefix: text before every step if it contains `{index}`, else once before the first; None for no prefix.
        prefixes_first: put the prefixes of all steps in one block before the tokens (the released code's layout of
            fused tokens) instead of each before its own step.
        own: `(B, ...)` by name, what a vision-language model's own visual tokens come with (see
            `crema_core.model.vlm`); None for all others. Such a segment has no prefix: the model's text is around it.
    """

    values: Tensor
    mask: Tensor
    prefix: str | None
    prefixes_first: bool = False
    own: Mapping[str, Tensor] | None = None
