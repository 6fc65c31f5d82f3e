"""PAVE's baseline without a patch (its Table 4, "FT (interleave)"): side tokens among the visual tokens.

Behind the tokens of every frame come the side tokens of its stretch of time, mapped to the language model's width, and
the language model is trained to read them: 32 frames of 196 tokens and 32 views of 576 are 24,704 tokens where a patch
leaves 6,272. The paper states the number of tokens (its 71.4 TFLOP are those of 24,744 with the question) and that the
language model is fine-tuned; the map is not described, and no configuration or script of it is released. Here it is the
two linear layers with a GELU between them that LLaVA has between vision encoder and language model.

Only where a clip's tokens are one run that ends with a newline, which is LLaVA-OneVision, the paper's backbone: other
models count positions from the grid of a clip, which has no place for more tokens.

Shape letters: R samples with visual tokens, F frames, K visual tokens of a frame with newlines, T side steps, N side
tokens of a step, M most tokens of a frame, W width with what the model's first layers add, L language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from crema_core.errors import OptionsError
from crema_core.fusion.base import Fusion, FusionSizes, ModalitySet, spread
from crema_core.tokens import ModalityTokens, Segment
from crema_pave.alignment import Alignment
from crema_pave.connectors import FeatureConnector, visual_connector, warn_of_lost
from crema_pave.grouping import home_frames
from crema_pave.newlines import Newlines, lay_out


class InterleaveFusion(Fusion):
    """Every supporting modality's tokens behind the frames they belong to.

    Args:
        supporting: names of the supporting modalities, whose tokens follow a frame in this order.
        width: L.
        num_tokens: of a frame.
        token_widths: by supporting modality, width of its features; L where not named.
        newlines: as of `PaveFusion`; a clip's newlines stay with its frames, before the side tokens.
        alignment: "time" puts a step behind the frame it overlaps where both have seconds; "count" deals steps out.

    Raises:
        OptionsError: for an unknown layout of newlines or alignment.
    """

    major_connector = staticmethod(visual_connector)
    supporting_connector = FeatureConnector.of
    one_query_count: ClassVar[bool] = False

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: for a backbone whose visual tokens take no others among them, or for a bad option.
        """
        if sizes.visual is None or sizes.visual.closing != 1:
            raise OptionsError(
                "fusion='pave_interleave' puts tokens among the visual tokens of a clip, and this backbone's have no "
                "place for any. Accepted: LLaVA-OneVision. Use "
                "backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf', or fusion='pave'."
            )
        options = {"token_widths": sizes.token_widths, **options}
        return cls(supporting, width=sizes.width, num_tokens=sizes.major_queries or sizes.num_queries, **options)

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        num_tokens: int,
        token_widths: Mapping[str, int] | None = None,
        newlines: Newlines = "grid",
        alignment: Alignment = "time",
    ) -> None:
        super().__init__((), width=width, num_queries=num_tokens)
        for name, value, accepted in (
            ("newlines", newlines, get_args(Newlines)),
            ("alignment", alignment, get_args(Alignment)),
        ):
            if value not in accepted:
                raise OptionsError(
                    f"{name}={value!r} is not known here. Accepted: {', '.join(accepted)}. Use {name}={accepted[0]!r}, "
                    "the default."
                )
        self.newlines, self.alignment, self._warned = newlines, alignment, False
        for name in supporting:
            self.add_supporting(name, total=len(supporting), token_width=(token_widths or {}).get(name))

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the map of a modality's tokens; more tokens change what is read whatever they hold, trained or not."""
        width = self.token_widths[name]
        self.blocks[name] = nn.Sequential(nn.Linear(width, self.width), nn.GELU(), nn.Linear(self.width, self.width))

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return the visual tokens with the side tokens among them; without a prefix."""
        self._warned = self._warned or warn_of_lost(modalities, "Tokens are put among those of")
        if modalities.major not in modalities.tokens:
            return []
        major = modalities.tokens[modalities.major]
        own_RFKW, mask_RFK = lay_out(major, major.values, self.newlines)
        sides = [(name, modalities.tokens[name]) for name in self.supporting if name in modalities.tokens]
        placed = [_Placed(side, major, self.blocks[name](side.values), self.alignment) for name, side in sides]
        num_frames, width = own_RFKW.shape[1], own_RFKW.shape[3]
        rows = []
        for row, sample in enumerate(major.rows.tolist()):
            for frame in range(num_frames):
                parts = [own_RFKW[row, frame][mask_RFK[row, frame]]]
                parts += [nn.functional.pad(one.of(sample, frame), (0, width - self.width)) for one in placed]
                rows.append(torch.cat(parts))
        values = pad_sequence(rows, batch_first=True).unflatten(0, (-1, num_frames))  # (R, F, M, W)
        counts = torch.tensor([len(row) for row in rows], device=values.device).unflatten(0, (-1, num_frames))
        mask_RFM = torch.arange(values.shape[2], device=values.device) < counts[..., None]
        return [
            modalities.segment(modalities.major)._replace(
                values=spread(values, major.rows, modalities.num_samples),
                mask=spread(mask_RFM, major.rows, modalities.num_samples),
            )
        ]


class _Placed:
    """One modality's mapped tokens and the frames they belong to."""

    def __init__(self, side: ModalityTokens, major: ModalityTokens, mapped: Tensor, alignment: Alignment) -> None:
        self.mapped = mapped
        own = {sample: row for row, sample in enumerate(major.rows.tolist())}
        self.rows = {sample: row for row, sample in enumerate(side.rows.tolist()) if sample in own}
        self.mask = side.mask[:, :, None].expand(mapped.shape[:3]) if side.token_mask is None else side.token_mask
        index = torch.tensor([own.get(sample, 0) for sample in side.rows.tolist()], device=side.rows.device)
        clock = None
        if alignment == "time" and major.times is not None and side.times is not None:
            clock = (major.times[index], side.times)
        self.home = home_frames(major.mask[index], side.mask, clock)

    def of(self, sample: int, frame: int) -> Tensor:
        """Return one frame's side tokens, step after step."""
        if sample not in self.rows:
            return self.mapped.new_zeros(0, self.mapped.shape[-1])
        row = self.rows[sample]
        here = self.mask[row] & (self.home[row] == frame)[:, None]
        tokens: Tensor = self.mapped[row][here]
        return tokens
