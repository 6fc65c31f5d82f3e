"""Deliberately bad fusions: one per check, each with the one fault that exactly that check must find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.fusion.base import Fusion, FusionSizes, ModalitySet
from crema_core.fusion.strategies import ConcatFusion
from crema_core.tokens import Segment


class Scale(nn.Module):
    """One weight per channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weight


class GoodFusion(Fusion):
    """The sum of the supporting modalities, each with its weights: conforms, and is what the bad ones begin from."""

    starts_at_zero = True

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        self.blocks[name] = Scale(self.width, 0.0 if zero else 1.0)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        known = [name for name in modalities.supporting if name in self.blocks]
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        grid = modalities.grid()
        values, masks = zip(*(modalities.framed(name, grid) for name in known), strict=True)
        parts = [self.blocks[name](own) for name, own in zip(known, values, strict=True)]
        return self.finish(modalities, torch.stack(parts).sum(0), torch.stack(masks).any(0)[:, :, 0], known)

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused, present, known)


class Abstract(Fusion):
    """entry_point_names_a_fusion: it has no forward."""


class NeedsHeads(ConcatFusion):
    """options_have_defaults: an option without one."""

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int, heads: int) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.heads = heads


class ShortMask(GoodFusion):
    """segments_keep_the_contract: the mask lacks a step."""

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused, present[:, :-1], known)


class NeedsMajor(GoodFusion):
    """every_subset_of_modalities_works: it takes the major modality for granted."""

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        assert modalities.tokens[modalities.major] is not None
        return super().forward(modalities)


class ChangesMajor(GoodFusion):
    """absent_modalities_change_nothing: it shifts the major tokens wherever there is something it could fuse."""

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        segments = super().forward(modalities)
        shift = 1.0 if self.supporting and modalities.major in modalities.tokens else 0.0
        return [segments[0]._replace(values=segments[0].values + shift), *segments[1:]]


class MixesSamples(GoodFusion):
    """samples_ignore_each_other: it takes the mean over the batch away."""

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused - fused.mean(0), present, known)


class Draws(GoodFusion):
    """layout_is_deterministic: it adds noise that no seed governs."""

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        generator = torch.Generator()
        generator.seed()
        noise = 1e-7 * torch.rand(fused.shape, generator=generator)
        return self.arrange(modalities, fused + noise, present, known)


class WritesInPlace(GoodFusion):
    """tokens_are_left_alone: it marks what it has seen in the tokens themselves."""

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        segments = super().forward(modalities)
        if not torch.is_grad_enabled():
            for tokens in modalities.supporting.values():
                tokens.values.mul_(2)
        return segments


class UsesNothing(GoodFusion):
    """parameters_are_declared: a parameter that is there although there is nothing to fuse."""

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.bias = nn.Parameter(torch.zeros(width))

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused + self.bias, present, known)


class Detaches(GoodFusion):
    """gradients_reach_what_is_declared: what it adds is cut off from its weights."""

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused.detach(), present, known)


class Forgets(GoodFusion):
    """saved_and_loaded_it_lays_out_the_same: what it multiplies with is drawn anew and not saved."""

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries)
        generator = torch.Generator()
        generator.seed()
        self.factor = torch.rand(width, generator=generator)

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused * self.factor, present, known)


class DividesByAll(GoodFusion):
    """other_modalities_stay_bit_identical: the mean over all built modalities, also those that are absent."""

    def finish(self, modalities: ModalitySet, fused: Tensor, present: Tensor, known: Sequence[str]) -> list[Segment]:
        return self.arrange(modalities, fused / len(self.supporting), present, known)


class StartsAtOne(GoodFusion):
    """an_added_modality_starts_at_zero: it promises so and starts at one."""

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        self.blocks[name] = Scale(self.width, 1.0)


class OwnSizes(ConcatFusion):
    """Conforms: its size comes from `for_sizes`, not from the user."""

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int, major_queries: int) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.major_queries = major_queries

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        return cls(supporting, width=sizes.width, num_queries=sizes.num_queries, major_queries=sizes.major_queries or 0)


BAD: dict[str, type[Fusion]] = {
    "entry_point_names_a_fusion": Abstract,
    "options_have_defaults": NeedsHeads,
    "segments_keep_the_contract": ShortMask,
    "every_subset_of_modalities_works": NeedsMajor,
    "absent_modalities_change_nothing": ChangesMajor,
    "samples_ignore_each_other": MixesSamples,
    "layout_is_deterministic": Draws,
    "tokens_are_left_alone": WritesInPlace,
    "parameters_are_declared": UsesNothing,
    "gradients_reach_what_is_declared": Detaches,
    "saved_and_loaded_it_lays_out_the_same": Forgets,
    "other_modalities_stay_bit_identical": DividesByAll,
    "an_added_modality_starts_at_zero": StartsAtOne,
}
"""Check -> the fusion it must find."""
