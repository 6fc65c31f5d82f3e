"""The video sense: frames of a clip through the backbone's shared frozen vision encoder."""

from __future__ import annotations

import torch

from crema_core.data.media import read_frames, resize
from crema_core.modality import Batch, Features, Modality, Sample
from crema_core.video.plugin import SPEC, VideoOptions


class VideoModality(Modality):
    """RGB frames, the middle ones of equal segments (CREMA's evaluation rule), with the time each stands for."""

    spec = SPEC
    options: VideoOptions

    def prepare(self, source: object) -> Sample:
        """Read frames.

        Args:
            source: see `crema_core.data.frames.read_frames`.

        Returns:
            `frames` `(T, 3, S, S)` normalised, S the encoder's image size; times for clip files.
        """
        options = self.options
        clip = read_frames(source, num_frames=options.num_frames, start_s=options.start_s, end_s=options.end_s)
        frames = self.context.normalize(resize(clip.frames, self.context.image_size))
        return Sample({"frames": frames}, clip.times)

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        return Features(self.context.encode_frames(batch["frames"]), batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> torch.Tensor:
        """Return noise `(8, 3, 40, 48)` uint8."""
        return torch.randint(0, 256, (8, 3, 40, 48), generator=generator, dtype=torch.uint8)
