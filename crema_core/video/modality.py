"""The video sense: frames of a clip through the backbone's shared frozen vision encoder, or a tower of its own."""

from __future__ import annotations

from pathlib import Path

import torch

from crema_core.data.media import Clip, middle_indices, read_frames
from crema_core.data.sheet import sheet, times_as_captions
from crema_core.errors import OptionsError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.video.plugin import SPEC, VideoOptions
from crema_core.video.towers.group import EncoderGroup
from crema_core.video.towers.layout import EncoderLayout
from crema_core.video.towers.seeing import SeeingEncoder


class VideoModality(Modality):
    """RGB frames, the middle ones of equal segments (CREMA's evaluation rule), with the time each stands for."""

    spec = SPEC
    options: VideoOptions

    def __init__(self, options: VideoOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.encoder = SeeingEncoder(options, context) if options.encoders is None else None
        self.group = self._group(options, context)

    @staticmethod
    def _group(options: VideoOptions, context: BuildContext) -> EncoderGroup | None:
        if options.encoders is None:
            return None
        return EncoderGroup(
            options.encoders,
            num_frames=options.num_frames,
            dtype=context.dtype,
            frame_rule=options.encoder_frames,
            at_once=options.encoders_at_once,
        )

    @property
    def layout(self) -> tuple[EncoderLayout, ...]:
        """Sizes of what each of several encoders says, for `unpack`; empty with a single encoder."""
        return () if self.group is None else self.group.layout

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's features; of several, the numbers of all together."""
        return (self.group or self._seeing).feature_dim

    @property
    def _seeing(self) -> SeeingEncoder:
        assert self.encoder is not None, "several encoders are in the group"
        return self.encoder

    def load_assets(self, folder: Path | None) -> None:
        """Load a tower's weights.

        Raises:
            AssetError: when they cannot be had.
            OptionsError: when frames per second are asked of a tower that sees a fixed number of frames.
        """
        if self.group is not None:
            self.group.load()
            return
        self._seeing.load()
        tower = self._seeing.tower
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
            `frames` `(T, 3, S, S)` normalised, S the encoder's image size; times for clip files. An encoder that sees
            several frames together: `(steps, frames of a step, 3, S, S)`. Several encoders: see `EncoderGroup.prepare`.
        """
        if self.group is not None:
            clip = self._read(source, num_frames=self.group.frames_wanted)
            return self.group.prepare(clip.frames, clip.times)
        num_frames = self.options.num_frames
        clip = self._read(source, num_frames=self._seeing.frames_wanted(num_frames))
        return self._seeing.prepare(clip.frames, clip.times, num_frames=num_frames)

    def _read(self, source: object, *, num_frames: int) -> Clip:
        options = self.options
        pick = middle_indices if self.group is None else self.group.pick
        return read_frames(
            source,
            num_frames=num_frames,
            start_s=options.start_s,
            end_s=options.end_s,
            fps=options.fps,
            pick=pick,
        )

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, N, D)`; several encoders: -> `(B, 1, 1, feature_dim)`."""
        features: Features = (self.group or self._seeing)(batch)
        return features

    def show(self, source: object) -> torch.Tensor:
        """Return the frames that are looked at, each with its time."""
        num_frames = self.options.num_frames if self.group is None else self.group.frames_wanted
        clip = self._read(source, num_frames=num_frames)
        return sheet(clip.frames, times_as_captions(clip.times, len(clip.frames)))

    def example(self, generator: torch.Generator) -> torch.Tensor:
        """Return noise `(8, 3, 40, 48)` uint8."""
        return torch.randint(0, 256, (8, 3, 40, 48), generator=generator, dtype=torch.uint8)
