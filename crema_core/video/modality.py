"""The video sense: frames of a clip through the backbone's shared frozen vision encoder, or a tower of its own."""

from __future__ import annotations

from pathlib import Path

import torch

from crema_core.data.media import read_frames
from crema_core.errors import OptionsError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.report.sheet import sheet, times_as_captions
from crema_core.video.plugin import SPEC, VideoOptions
from crema_core.video.towers.seeing import SeeingEncoder


class VideoModality(Modality):
    """RGB frames, the middle ones of equal segments (CREMA's evaluation rule), with the time each stands for."""

    spec = SPEC
    options: VideoOptions

    def __init__(self, options: VideoOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.encoder = SeeingEncoder(options, context)

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's features."""
        return self.encoder.feature_dim

    def load_assets(self, folder: Path | None) -> None:
        """Load a tower's weights.

        Raises:
            AssetError: when they cannot be had.
            OptionsError: when frames per second are asked of a tower that sees a fixed number of frames.
        """
        self.encoder.load()
        tower = self.encoder.tower
        if tower is not None and tower.sees_clips and self.options.fps is not None:
            raise OptionsError(
                f"fps={self.options.fps:g} was set with encoder='{self.options.encoder}', which sees a fixed number of "
                "frames together. Frames per second need an encoder of single frames. Leave fps out, or use "
                "encoder='backbone'."
            )

    def prepare(self, source: object) -> Sample:
        """Read frames.

        Args:
            source: see `crema_core.data.frames.read_frames`.

        Returns:
            `frames` `(T, 3, S, S)` normalised, S the encoder's image size; times for clip files. A tower that sees
            clips: `(steps, frames of a step, 3, S, S)`.
        """
        options = self.options
        clip = read_frames(
            source,
            num_frames=self.encoder.frames_wanted(options.num_frames),
            start_s=options.start_s,
            end_s=options.end_s,
            fps=options.fps,
        )
        return self.encoder.prepare(clip.frames, clip.times, num_frames=options.num_frames)

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        features: Features = self.encoder(batch)
        return features

    def show(self, source: object) -> torch.Tensor:
        """Return the frames that are looked at, each with its time."""
        options = self.options
        clip = read_frames(
            source, num_frames=options.num_frames, start_s=options.start_s, end_s=options.end_s, fps=options.fps
        )
        return sheet(clip.frames, times_as_captions(clip.times, len(clip.frames)))

    def example(self, generator: torch.Generator) -> torch.Tensor:
        """Return noise `(8, 3, 40, 48)` uint8."""
        return torch.randint(0, 256, (8, 3, 40, 48), generator=generator, dtype=torch.uint8)
