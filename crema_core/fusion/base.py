"""What every fusion strategy is: modalities in, prompt segments out.

A fusion owns the layout of the prompt before the question: it may leave modalities side by side (concat), merge
supporting modalities into as many tokens as the major one has (CREMA equation 3), or rewrite the major tokens. Core
never looks inside. Parameters are kept per supporting modality ("blocks"), because a linear map over
channel-concatenated modalities equals a sum of per-modality maps: adding a modality then adds a block and changes no
shape.

Shape letters: B samples, T steps of the grid, Q queries, L language-model width.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from crema_core.errors import OptionsError, did_you_mean
from crema_core.fusion.align import Grid, align, frame_grid
from crema_core.fusion.connector import Connector, ConnectorFactory, VisualLayout
from crema_core.plugins.spec import ModalitySpec
from crema_core.tokens import OWN_IDS, ModalityTokens, Segment

Layout = Literal["paper", "released"]


@dataclass(frozen=True)
class FusionSizes:
    """What a strategy is built for.

    Attributes:
        width: L.
        num_queries: Q of every fused modality.
        major_queries: tokens of the major modality per step; None: Q.
        token_widths: by supporting modality, width of the tokens its connector gives; L unless it hands features on.
        visual: what the backbone's own visual tokens are; None where it has none.
        qformer: what its Q-Former attends to and its own width, E and H; None where it has none.
    """

    width: int
    num_queries: int
    major_queries: int | None = None
    token_widths: Mapping[str, int] = field(default_factory=dict)
    visual: VisualLayout | None = None
    qformer: tuple[int, int] | None = None


class Reading(NamedTuple):
    """How the tokens of some samples' frames read one supporting modality, in one call of a fusion.

    Shape letters: R samples, A layers of attention, F frames, S tokens of a frame, T steps of the supporting modality
    as they are read, N tokens of a step.

    Attributes:
        rows: `(R,)` int64, which samples of the batch.
        by_place: `(R, A, F, T, N)` weights, mean over heads and over a frame's tokens; each frame's sum to 1 over T and
            N, or are all 0 where it reads nothing.
        by_token: `(R, A, F, S, T)` weights, mean over heads, sum over a step's tokens; each token's sum to 1 over T.
        added: `(R, F, S)` length of what is added to every token.
    """

    rows: Tensor
    by_place: Tensor
    by_token: Tensor
    added: Tensor


@dataclass
class FusionWatch:
    """What a fusion did in one call; the fusion fills it in where it was asked to.

    Attributes:
        gate: `(B, T, Q)`, mean over the width of what each fused token is multiplied with; None without a gate.
        parts: by supporting modality `(R, T)`, the mean length of what it adds to the fused tokens of R samples; empty
            where a fusion does not add modalities up.
        reads: by supporting modality, how the major modality's tokens read it; samples whose frames differ in shape
            are apart. Filled in by fusions with `Fusion.shows_reads`.
    """

    gate: Tensor | None = None
    parts: dict[str, Tensor] = field(default_factory=dict)
    reads: dict[str, list[Reading]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModalitySet:
    """The modalities of one batch as a fusion sees them.

    Attributes:
        tokens: by name, in the order of `build`; modalities absent from the whole batch are absent here.
        major: name of the major modality (it may be absent from `tokens`).
        num_samples: B.
        prefixes: prefix text of every built modality.
        per_frame: names of the modalities that have one step per frame of the major modality.
        watch: is filled in by the fusion, for reports; None: nobody looks.
        connectors: of the built modalities, for a fusion that reads features, see `Fusion.reads_features`.
    """

    tokens: Mapping[str, ModalityTokens]
    major: str
    num_samples: int
    prefixes: Mapping[str, str]
    per_frame: frozenset[str]
    watch: FusionWatch | None = None
    connectors: Mapping[str, Connector] = field(default_factory=dict)

    @property
    def supporting(self) -> dict[str, ModalityTokens]:
        """The modalities other than the major one."""
        return {name: tokens for name, tokens in self.tokens.items() if name != self.major}

    def aligned(self, name: str, grid: Grid, *, by_time: bool = True) -> Tensor:
        """Return one modality's tokens on the grid `(R, T, Q, L)`, see `align`."""
        tokens = self.tokens[name] if by_time else self.tokens[name]._replace(times=None)
        return align(tokens, grid, per_frame=name in self.per_frame)

    def framed(self, name: str, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return one modality's tokens on the grid for all samples, `(B, T, Q, L)`, and their mask `(B, T, Q)`."""
        values = spread(self.aligned(name, grid), self.tokens[name].rows, self.num_samples)
        return values, (grid.mask & self.present(name)[:, None])[:, :, None].expand(-1, -1, values.shape[2])

    def present(self, name: str) -> Tensor:
        """Return which samples have a modality of the batch, `(B,)` bool."""
        rows = self.tokens[name].rows
        return rows.new_zeros(self.num_samples, dtype=torch.bool).index_fill(0, rows, True)

    def grid(self) -> Grid:
        """Return the steps to which supporting modalities are aligned, see `frame_grid`."""
        return frame_grid(self.tokens, self.major, self.per_frame, self.num_samples)

    def segment(self, name: str) -> Segment:
        """Return one modality's tokens as a segment of their own, with that modality's prefix."""
        tokens = self.tokens[name]
        values = spread(tokens.values, tokens.rows, self.num_samples)
        if OWN_IDS not in tokens.extras:
            return Segment(values, spread(tokens.mask, tokens.rows, self.num_samples), self.prefixes[name])
        mask = tokens.mask if tokens.token_mask is None else tokens.token_mask
        own = {key: spread(extra, tokens.rows, self.num_samples) for key, extra in tokens.extras.items()}
        return Segment(values, spread(mask, tokens.rows, self.num_samples), None, own=own)


def spread(values: Tensor, rows: Tensor, num_samples: int) -> Tensor:
    """Place `(R, ...)` values at their samples' rows of `(B, ...)` zeros."""
    if values.shape[0] == num_samples:  # every sample has the modality: rows are 0..B-1 by construction
        return values
    return values.new_zeros(num_samples, *values.shape[1:]).index_copy(0, rows, values)


@dataclass(frozen=True)
class FusionPlan:
    """What `build` makes of a strategy and its options.

    Attributes:
        fusion: the class that fuses.
        options: of that class.
        major_connector, supporting_connector, major_prefix, mixes_parts, reads_inner, individual_qformers,
            reads_features: see `Fusion`.
        lr_scale: what the learning rate of a training is multiplied with for the weights of all connectors.
    """

    fusion: type[Fusion]
    options: Mapping[str, Any]
    major_connector: ConnectorFactory | None = None
    supporting_connector: ConnectorFactory | None = None
    major_prefix: str | None = None
    mixes_parts: bool = False
    reads_inner: bool = False
    individual_qformers: bool = False
    lr_scale: float = 1.0
    reads_features: bool = False

    def needs_qformer(self, num_modalities: int) -> bool:
        """Return whether a connector of a model with so many modalities passes the backbone's Q-Former."""
        return self.major_connector is None or (num_modalities > 1 and self.supporting_connector is None)


class Fusion(nn.Module, abc.ABC):
    """Base of the strategies.

    Args:
        supporting: names of the supporting modalities the fusion has weights for.
        width: L.
        num_queries: Q.
        layout: "paper" (every modality's tokens after its own prefix, footnote 4; time stamps decide what falls on a
            frame) or "released" (the released code's order of prefixes and its averaging, for its weights).

    Attributes:
        major_connector, supporting_connector: what is between features and fusion, see
            `crema_core.fusion.connector`; None: the adapter around the backbone's Q-Former.
        one_query_count: whether all fused modalities need the same number of queries.
        major_prefix: text before the major modality's tokens unless the user chose one; None: the declared one.
        starts_at_zero: whether a modality that is added later changes nothing, until it is trained, where a sample
            has another supporting one.
        test_options: sets of options the conformance kit tries the strategy with.
        mixes_parts: whether the major modality's connector takes features of several parts, see
            `Modality.feature_parts`.
        reads_inner: whether a vision-language model is to give its visual tokens before its projector too.
        individual_qformers: whether a modality without a connector of the strategy's gets a copy of the backbone's
            Q-Former, trained whole, instead of a LoRA in the shared one.
        reads_features: whether the fusion lets several modalities pass the Q-Former together. What it gets of each is
            its features, see `crema_core.model.feature_tokens`, and the connectors, which it applies itself.
        shows_reads: whether the fusion fills `FusionWatch.reads` in where samples have the major and a supporting
            modality.
    """

    major_connector: ClassVar[ConnectorFactory | None] = None
    supporting_connector: ClassVar[ConnectorFactory | None] = None
    one_query_count: ClassVar[bool] = True
    major_prefix: ClassVar[str | None] = None
    starts_at_zero: ClassVar[bool] = False
    test_options: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    mixes_parts: ClassVar[bool] = False
    reads_inner: ClassVar[bool] = False
    individual_qformers: ClassVar[bool] = False
    reads_features: ClassVar[bool] = False
    shows_reads: ClassVar[bool] = False

    @classmethod
    def plan(cls, options: Mapping[str, Any]) -> FusionPlan:
        """Return what `build` is to make of the strategy with these options; torch does nothing yet.

        A strategy that leaves a part of its work to another one overrides this: it plans the other, see
        `crema_core.fusion.plan_fusion`, and adds what it does itself, most often as a connector.

        Raises:
            OptionsError: for options that can be refused before anything is loaded.
        """
        cls._check_names(options)
        return FusionPlan(
            cls,
            dict(options),
            major_connector=cls.major_connector,
            supporting_connector=cls.supporting_connector,
            major_prefix=cls.major_prefix,
            mixes_parts=cls.mixes_parts,
            reads_inner=cls.reads_inner,
            individual_qformers=cls.individual_qformers,
            reads_features=cls.reads_features,
        )

    @classmethod
    def extended(cls, spec: ModalitySpec) -> ModalitySpec:
        """Return the declaration under which a modality is built for this strategy: as it is, unless overridden.

        A strategy may give a modality it knows more options and a class of its own; the name stays.
        """
        return spec

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy; one that needs more than width and queries overrides this."""
        return cls(supporting, width=sizes.width, num_queries=sizes.num_queries, **options)

    @classmethod
    def _check_names(cls, options: Mapping[str, Any]) -> None:
        parameters = inspect.signature(cls).parameters.values()
        known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is not one.empty]
        known = [name for name in known if name not in {own.name for own in fields(FusionSizes)}]  # build's own to give
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
        for name in options if not takes_any else ():
            if name not in known:
                raise OptionsError(
                    f"fusion: {cls.__name__} has no option '{name}'. Accepted: {', '.join(known) or 'none'}."
                    f"{did_you_mean(name, known)} Correct the name, or leave it out."
                )

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int, layout: Layout = "paper") -> None:
        super().__init__()
        if layout not in get_args(Layout):
            raise OptionsError(
                f"layout={layout!r} is not a layout. Accepted: {', '.join(get_args(Layout))}. Use layout='paper'."
            )
        self.width, self.num_queries, self.layout = width, num_queries, layout
        self.token_widths: dict[str, int] = {}
        self.supporting: list[str] = []
        self.blocks = nn.ModuleDict()
        self._has_shared = False
        for name in supporting:
            self._add(name, total=len(supporting), zero=False)

    @abc.abstractmethod
    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Lay out the modalities of a batch; every value may depend on its own sample only."""

    def add_supporting(self, name: str, *, total: int, zero: bool = False, token_width: int | None = None) -> None:
        """Add the weights of one supporting modality.

        Args:
            name: the modality.
            total: number of supporting modalities the initialisation assumes.
            zero: start without influence, so that outputs do not change until the block is trained.
            token_width: width of the tokens its connector gives; None: L.
        """
        self.token_widths[name] = self.width if token_width is None else token_width
        self._add(name, total=total, zero=zero)
        first = not self._has_shared
        self.complete()
        if zero and first:
            self.zero_shared()

    def zero_shared(self) -> None:
        """Let what all modalities share add nothing until it is trained; nothing to do for most strategies."""

    def complete(self) -> None:
        """Create what all modalities share as soon as there is something to fuse.

        A strategy with shared parameters calls this at the end of its `__init__`. A model with the major modality alone
        has nothing to fuse and so no parameter that would be trained and never used.
        """
        if self.supporting and not self._has_shared:
            self._has_shared = True
            self.make_shared()

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Create the parameters of one supporting modality; nothing for strategies without any."""

    def make_shared(self) -> None:
        """Create the parameters shared by all modalities; nothing for strategies without any."""

    def _add(self, name: str, *, total: int, zero: bool) -> None:
        self.supporting.append(name)
        self.make_block(name, total=total, zero=zero)

    def block_parameters(self, names: Iterable[str]) -> dict[str, nn.Parameter]:
        """Return the parameters that belong to the given modalities alone."""
        wanted = tuple(f"blocks.{name}." for name in names)
        return {key: parameter for key, parameter in self.named_parameters() if key.startswith(wanted)}

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters shared by all modalities."""
        return {key: parameter for key, parameter in self.named_parameters() if not key.startswith("blocks.")}

    def known(self, modalities: ModalitySet) -> list[str]:
        """Return the supporting modalities of a batch that the fusion has weights for, in the order of `build`."""
        return [name for name in modalities.supporting if name in self.blocks]

    def arrange(self, modalities: ModalitySet, fused: Tensor, mask: Tensor, known: Iterable[str]) -> list[Segment]:
        """Major tokens, then fused tokens, then modalities the fusion has no weights for (zero-shot concatenation,
        A.5).

        Args:
            modalities: the batch.
            fused: `(B, T, Q, L)`.
            mask: `(B, T)` bool.
            known: names of the modalities inside `fused`.
        """
        known = set(known)
        apart = [name for name in modalities.tokens if name not in known]
        segments = self.side_by_side(modalities, apart)
        own = Segment(fused, mask, modalities.prefixes[modalities.major], prefixes_first=self.layout == "released")
        position = 1 if modalities.major in apart else 0
        return [*segments[:position], own, *segments[position:]]

    def side_by_side(self, modalities: ModalitySet, names: Iterable[str]) -> list[Segment]:
        """Return segments of modalities that are not fused, the major one first.

        In the released layout a sample's per-frame modalities go into the frames of its major modality without prefixes
        of their own, and a modality with a clock has none either beside another one.
        """
        chosen = set(names)
        ordered = [
            name for name in sorted(modalities.tokens, key=lambda name: name != modalities.major) if name in chosen
        ]
        if self.layout == "paper" or ordered in ([], [modalities.major]):
            return [modalities.segment(name) for name in ordered]
        segments = []
        present = {name: modalities.present(name) for name in ordered}
        several_B = torch.stack(list(present.values())).sum(0) > 1
        framed_B = present.get(modalities.major, torch.zeros_like(several_B))
        inside = [name for name in ordered if name in modalities.per_frame and modalities.major in present]
        if inside:
            grid = modalities.grid()
            values, masks = zip(*(modalities.framed(name, grid) for name in inside), strict=True)
            mask_BTK = torch.cat(masks, 2) & framed_B[:, None, None]
            segments.append(Segment(torch.cat(values, 2), mask_BTK, modalities.prefixes[modalities.major]))
        for name in ordered:
            own, times = modalities.segment(name), modalities.tokens[name].times
            apart_B = present[name] & ~framed_B if name in inside else present[name]
            bare_B = torch.zeros_like(several_B)
            if times is not None:
                clocked_R = ~times.isnan().flatten(1).any(1)
                bare_B = several_B & spread(clocked_R, modalities.tokens[name].rows, modalities.num_samples)
            for prefix, wanted_B in ((None, apart_B & bare_B), (own.prefix, apart_B & ~bare_B)):
                if bool(wanted_B.any()):
                    segments.append(own._replace(prefix=prefix, mask=own.mask & wanted_B[:, None]))
        return segments
