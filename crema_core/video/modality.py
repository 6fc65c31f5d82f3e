"""The video modality: frames of a clip through the backbone's shared frozen vision encoder, or one of its own."""

from __future__ import annotations

from pathlib import Path

import torch

from crema_core.data.media import Clip, middle_indices, read_frames
from crema_core.data.sampling import Pick, RememberedPick
from crema_core.errors import OptionsError
from crema_core.modality import BuildContext, Sample
from crema_core.video.plugin import SPEC, VideoOptions
from crema_core.video.seeing import SeeingModality, with_usual_frames


class VideoModality(SeeingModality):
    """RGB frames, the middle ones of equal segments (CREMA's evaluation rule), with the time each covers."""

    spec = SPEC
    options: VideoOptions

    def __init__(self, options: VideoOptions, context: BuildContext) -> None:
        super().__init__(with_usual_frames(options, context), context)

    def load_assets(self, folder: Path | None) -> None:
        """Load a vision encoder's weights.

        Raises:
            AssetError: when they cannot be had.
            OptionsError: when frames per second are asked of a vision encoder that sees a fixed number of frames.
        """
        super().load_assets(folder)
        vision_encoder = self.encoder.vision_encoder
        if vision_encoder is not None and vision_encoder.sees_clips and self.options.fps is not None:
            raise OptionsError(
                f"fps={self.options.fps:g} was set with encoder='{self.options.encoder}', which sees a fixed number of "
                "frames together. Frames per second need an encoder of single frames. Leave fps out, or use "
                "encoder='backbone'."
            )

    def prepare(self, source: object) -> Sample:
        """Read frames.

        Args:
            source: see `crema_core.data.images.read_frames`.

        Returns:
            `frames` `(T, 3, S, S)` normalised, S the encoder's image size; times for clip files. An encoder that sees
            several frames together: `(steps, frames of a step, 3, S, S)`.
        """
        num_frames = self.options.num_frames
        clip = self.read(source, num_frames=self.encoder.frames_wanted(num_frames))
        return self.encoder.prepare(clip.frames, clip.times, num_frames=num_frames)

    def read(self, source: object, *, num_frames: int, pick: Pick = middle_indices) -> Clip:
        """Read frames of the part of a source that the options name.

        Args:
            source: as of `prepare`.
            num_frames: how many; with frames per second the most.
            pick: which of the frames that are there.
        """
        options = self.options
        return read_frames(
            source, num_frames=num_frames, start_s=options.start_s, end_s=options.end_s, fps=options.fps, pick=pick
        )

    def show(self, source: object) -> torch.Tensor:
        """Return the frames that are looked at, each with its time."""
        num_frames, picked = self.options.num_frames, RememberedPick(middle_indices)
        clip = self.read(source, num_frames=self.encoder.frames_wanted(num_frames), pick=picked)
        return self.draw_frames(clip.frames, clip.times, picked, num_frames=num_frames)

    def example(self, generator: torch.Generator) -> torch.Tensor:
        """Return noise `(8, 3, 40, 48)` uint8."""
        return torch.randint(0, 256, (8, 3, 40, 48), generator=generator, dtype=torch.uint8)
