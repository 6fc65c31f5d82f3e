"""How a clip's own tokens read a supporting modality: over time and place, and what they get (PAVE Figure 4).

For fusions that rewrite the major modality's tokens, where no Q-Former looks at the supporting one. The numbers are the
fusion's own, see `crema_core.fusion.base.Reading`.

Shape letters: A layers of attention, F frames of the clip, S tokens of a frame, T steps of the supporting modality as
they are read, N tokens of a step, H and W a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from crema_core.errors import OptionsError
from crema_core.fusion.base import Reading
from crema_core.tokens import OWN_LAYOUT, ModalityTokens


@dataclass(frozen=True)
class ReadMap:
    """One supporting modality, as the clip's frames read it.

    Attributes:
        by_place: `(A, F, T, N)` weights, mean over heads and over a frame's tokens; each frame's sum to 1.
        by_token: `(A, F, S, T)` weights, mean over heads; each token's sum to 1.
        added: `(F, S)` length of what is added to every token.
        pictures: `(F, 3, H, W)` in 0..1, what the frames show; None where they are not one picture each.
        grid: rows and columns of a frame's tokens; None where they make no grid.
        side_grid: rows and columns of a step's tokens; None where they make no grid.
        times: `(F, 2)` seconds of the frames, or None.
        side_times: `(T, 2)` seconds of the steps, or None, also where steps were stretched to the number of frames.
    """

    by_place: Tensor
    by_token: Tensor
    added: Tensor
    pictures: Tensor | None = None
    grid: tuple[int, int] | None = None
    side_grid: tuple[int, int] | None = None
    times: Tensor | None = None
    side_times: Tensor | None = None

    def over_time(self, layer: int | None = None) -> Tensor:
        """Return `(F, T)`: how much every frame reads every step, of one layer or the mean of all.

        Raises:
            OptionsError: for a layer there is none of.
        """
        return self._chosen(layer).sum(-1)

    def over_places(self, layer: int | None = None) -> Tensor:
        """Return `(F, N)`: how much every frame reads every place, over all steps; layers as in `over_time`."""
        return self._chosen(layer).sum(-2)

    def added_heat(self) -> Tensor | None:
        """Return `(F, rows, columns)`: the length of what every token gets; None where they make no grid."""
        return None if self.grid is None else self.added.view(-1, *self.grid)

    def _chosen(self, layer: int | None) -> Tensor:
        count = self.by_place.shape[0]
        if layer is None:
            return self.by_place.mean(0)
        if not 0 <= layer < count:
            raise OptionsError(
                f"layer={layer} is no layer with which this fusion reads. It has {count}, 0 to {count - 1}. Name one "
                "of them, or leave layer out for their mean."
            )
        return self.by_place[layer]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON data."""
        return {
            "over_time": self.over_time().tolist(),
            "over_places": self.over_places().tolist(),
            "by_token": self.by_token.mean(0).tolist(),
            "added": self.added.tolist(),
            "grid": self.grid,
            "side_grid": self.side_grid,
            "times_s": None if self.times is None else self.times.tolist(),
            "side_times_s": None if self.side_times is None else self.side_times.tolist(),
        }


def read_maps(
    reads: Mapping[str, list[Reading]], tokens: Mapping[str, ModalityTokens], *, major: str, pictures: Tensor | None
) -> dict[str, ReadMap]:
    """Return the maps of a batch of one sample.

    Args:
        reads: of `FusionWatch`.
        tokens: of the modalities, as the fusion was given them.
        major: name of the modality whose tokens read.
        pictures: `(F, 3, H, W)` in 0..1 of its frames, or None.
    """
    found = {}
    for name, (own,) in reads.items():
        frames, side = tokens[major], tokens[name]
        real = frames.mask[0].cpu()
        by_place, by_token = own.by_place[0].cpu()[:, real], own.by_token[0].cpu()[:, real]
        steps, times = side.mask[0], side.times
        # Steps stretched to one per frame are between the modality's own: its seconds are not theirs.
        own_times = None if times is None or bool(times[0][steps].isnan().any()) else times[0].cpu()
        if own_times is not None and len(own_times) != by_place.shape[2]:
            own_times = None
        found[name] = ReadMap(
            by_place,
            by_token,
            own.added[0].cpu()[real],
            None if pictures is None else pictures[real],
            _own_grid(frames),
            _square(by_place.shape[-1]),
            None if frames.times is None or bool(frames.times.isnan().any()) else frames.times[0].cpu()[real],
            own_times,
        )
    return found


def _own_grid(frames: ModalityTokens) -> tuple[int, int] | None:
    if OWN_LAYOUT not in frames.extras:
        return None
    rows, columns = frames.extras[OWN_LAYOUT][0, 0].tolist()
    return (rows, columns) if rows > 1 else None


def _square(count: int) -> tuple[int, int] | None:
    side = math.isqrt(count)
    return (side, side) if side > 1 and side * side == count else None
