"""Everything of MERV between frozen encoders and the language model: projectors, alignment in time, mixer.

Shape letters: B samples, E encoders, T common steps, S steps of one encoder, N patches, D feature width, K tokens of a
step, L language-model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from crema_core.errors import OptionsError, did_you_mean
from crema_core.modality import FeaturePart
from crema_merv.alignment import Rule, align_encoders, check_rule
from crema_merv.maps import MapKind
from crema_merv.mixers import (
    AverageMixer,
    ChannelMixer,
    ConcatMixer,
    CrossAttentionMixer,
    Mixed,
    Mixer,
    ScalarMixer,
)
from crema_merv.projectors import Projector, ProjectorKind
from crema_merv.released_mixer import ReleasedMixer

MixerKind = Literal["cross_attention", "released", "scalar", "average", "channel", "channel_norm", "concat"]


def make_mixer(kind: MixerKind, num_encoders: int, *, width: int) -> Mixer:
    """Build a mixer by name.

    Args:
        kind: "cross_attention" (the paper's, one vector), "released" (the same, with the released weights), "scalar",
            "average", "channel", "channel_norm" (with LayerNorm) or "concat".
        num_encoders: E.
        width: L.

    Raises:
        OptionsError: for an unknown name.
    """
    if kind == "cross_attention":
        return CrossAttentionMixer(num_encoders, width=width)
    if kind == "released":
        return ReleasedMixer(num_encoders, width=width)
    if kind == "scalar":
        return ScalarMixer(num_encoders, width=width)
    if kind == "average":
        return AverageMixer(num_encoders, width=width)
    if kind in ("channel", "channel_norm"):
        return ChannelMixer(num_encoders, width=width, norm=kind == "channel_norm")
    if kind == "concat":
        return ConcatMixer(num_encoders, width=width)
    raise OptionsError(
        f"{kind!r} is no mixer of encoders. Accepted: {', '.join(get_args(MixerKind))}."
        f"{did_you_mean(kind, get_args(MixerKind))} Use 'cross_attention', the paper's."
    )


class Merv(nn.Module):
    """Projects the features of several encoders and mixes them.

    Args:
        layout: sizes of the encoders' features.
        width: L.
        projector: kind of all projectors, see `Projector`.
        map_kind: see `make_map`.
        mixer: see `make_mixer`.
        num_steps: common steps of all encoders, also those of the projectors over time; None: as many as the encoder
            with most steps has.
        rule: how encoders with other numbers of steps are aligned, see `align_encoders`.
        **projector_options: `token_grid`, `num_blocks`, `num_heads` of `Projector`.

    Raises:
        OptionsError: for unknown names, no encoder, and encoders with different numbers of tokens.

    Example:
        >>> import torch
        >>> pictures = FeaturePart("siglip", steps=4, rows=3, columns=3, width=8)
        >>> clips = FeaturePart("vivit", steps=2, rows=5, columns=4, width=12)
        >>> merv = Merv([pictures, clips], width=16, token_grid=(2, 2))
        >>> mixed = merv([torch.zeros(1, 4, 9, 8), torch.zeros(1, 2, 20, 12)])
        >>> mixed.values.shape, mixed.weights.shape
        (torch.Size([1, 4, 4, 16]), torch.Size([1, 2]))
    """

    def __init__(
        self,
        layout: Sequence[FeaturePart],
        *,
        width: int,
        projector: ProjectorKind = "average",
        map_kind: MapKind = "linear",
        mixer: MixerKind = "cross_attention",
        num_steps: int | None = None,
        rule: Rule = "average",
        **projector_options: Any,
    ) -> None:
        super().__init__()
        if not layout:
            raise OptionsError("No encoder was given to mix. One or more are. Name encoders of the modality that sees.")
        check_rule(rule)
        self.layout, self.num_steps, self.rule = tuple(layout), num_steps, rule
        self.projectors = nn.ModuleList(
            Projector(encoder, width=width, kind=projector, map_kind=map_kind, num_steps=num_steps, **projector_options)
            for encoder in layout
        )
        self.mixer = make_mixer(mixer, len(layout), width=width)
        self.num_tokens = _common_tokens(self.projectors)

    def forward(
        self, features: Sequence[Tensor], masks: Sequence[Tensor] | None = None, present_BE: Tensor | None = None
    ) -> Mixed:
        """Return what the language model is shown.

        Args:
            features: of every encoder `(B, S, N, D)`.
            masks: of every encoder `(B, S)` bool, real steps first; None: all are real.
            present_BE: `(B, E)` bool, the encoders a sample has; None: those with a real step.
        """
        if masks is None:
            masks = [values.new_ones(values.shape[:2]).bool() for values in features]
        projected = [
            projector(values, mask) for projector, values, mask in zip(self.projectors, features, masks, strict=True)
        ]
        aligned = align_encoders(projected, present_BE, num_steps=self.num_steps, rule=self.rule)
        mixed: Mixed = self.mixer(aligned.values, aligned.mask, aligned.present)
        return mixed


def _common_tokens(projectors: nn.ModuleList) -> int:
    counts = {
        projector.layout.name: projector.num_tokens for projector in projectors if isinstance(projector, Projector)
    }
    several = set(counts.values()) - {1}
    if len(several) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise OptionsError(
            f"The encoders give different numbers of tokens a step: {told}. To be mixed, all give the same, or one. "
            "Use a projector that resamples, such as 'average', instead of 'full'."
        )
    return several.pop() if several else 1
