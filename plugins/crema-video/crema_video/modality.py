"""The dense video modality: many frames of the same video, few tokens each (PAVE's slow-fast setting).

Shape letters: B samples, T frames, N tokens of a frame, D feature width, S side of a picture.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from crema_core.data.media import CLIP_SUFFIXES, Clip, file_of, middle_indices, read_frames
from crema_core.data.sampling import Pick, RememberedPick
from crema_core.modality import Batch, Features, Sample
from crema_core.video.seeing import SeeingModality
from crema_video.plugin import DENSE, DenseVideoOptions
from crema_video.pooling import pool_grid


class DenseVideoModality(SeeingModality):
    """Frames at a rate of their own, averaged to a few tokens each, with the time each covers."""

    spec = DENSE
    options: DenseVideoOptions

    def prepare(self, source: object) -> Sample:
        """Read frames.

        Args:
            source: see `crema_core.data.images.read_frames`; pictures without a clock are all taken, up to
                `num_frames`.

        Returns:
            `frames` `(T, 3, S, S)` normalised; times for clip files. A vision encoder that sees clips gets whole ones.
        """
        clip = self._read(source)
        return self.encoder.prepare(clip.frames, clip.times, num_frames=len(clip.frames))

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, pool * pool, D)`."""
        features = super().encode(batch)
        return features._replace(values=pool_grid(features.values, self.options.pool))

    def show(self, source: object) -> Tensor:
        """Return the frames that are looked at, of very many an even part, each with its time."""
        picked = RememberedPick(at_most)
        clip = self._read(source, picked)
        return self.draw_frames(clip.frames, clip.times, picked, num_frames=len(clip.frames))

    def example(self, generator: torch.Generator) -> Tensor:
        """Return noise `(12, 3, 40, 48)` uint8."""
        return torch.randint(0, 256, (12, 3, 40, 48), generator=generator, dtype=torch.uint8)

    def _read(self, source: object, pick: Pick | None = None) -> Clip:
        has_clock = isinstance(source, str | os.PathLike) and (
            Path(file_of(str(source))).suffix.lower() in CLIP_SUFFIXES and not Path(source).is_dir()
        )
        options = self.options
        fps = options.fps if has_clock else None
        return read_frames(source, num_frames=options.num_frames, fps=fps, pick=pick or at_most)


def at_most(num_available: int, num_wanted: int) -> list[int]:
    """Return the middle ones of equal segments, of fewer frames than are wanted each once.

    >>> at_most(16, 4), at_most(2, 4)
    ([2, 6, 10, 14], [0, 1])
    """
    return middle_indices(num_available, min(num_available, num_wanted))
