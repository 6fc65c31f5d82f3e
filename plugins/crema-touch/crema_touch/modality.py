"""The touch sense: images of a tactile sensor through the backbone's shared frozen vision encoder (as in CREMA)."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.data.media import read_frames, resize
from crema_core.modality import Batch, Features, Modality, Sample
from crema_touch.plugin import SPEC, TouchOptions


class TouchModality(Modality):
    """Tactile images, optionally as the difference to an image without contact."""

    spec = SPEC
    options: TouchOptions

    def prepare(self, source: object) -> Sample:
        """Read tactile images.

        Args:
            source: an image, a folder or list of images, a recording, or an array; see `read_frames` of core.

        Returns:
            `frames` `(T, 3, S, S)` normalised; T is 1 for a single image.

        Raises:
            MediaError: when the source or the background is absent, empty, damaged or of another type.
        """
        clip = read_frames(source, num_frames=self.options.num_frames)
        size = self.context.image_size
        frames = resize(clip.frames, size)
        if self.options.background is not None:
            background = read_frames(self.options.background, num_frames=1).frames
            frames = subtract_background(frames, resize(background, size))
        return Sample({"frames": self.context.normalize(frames)})

    def encode(self, batch: Batch) -> Features:
        """Encode every image: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        return Features(self.context.encode_frames(batch["frames"]), batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a smooth random relief `(3, 3, 32, 40)` float in 0..1, a recording of three frames."""
        coarse = torch.rand(3, 3, 4, 5, generator=generator)
        return torch.nn.functional.interpolate(coarse, size=(32, 40), mode="bilinear")


def subtract_background(frames: Tensor, background: Tensor) -> Tensor:
    """Return `(frames - background) / 2 + 0.5`: 0.5 means no change.

    Args:
        frames: `(T, 3, S, S)` in 0..1.
        background: `(1, 3, S, S)` in 0..1.
    """
    return (frames - background) / 2 + 0.5
