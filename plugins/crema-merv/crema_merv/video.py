"""The modality of video through several frozen encoders at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from crema_core.data.sampling import RememberedPick
from crema_core.data.sheet import frames_panel, line, stack, times_as_captions
from crema_core.modality import Batch, BuildContext, FeaturePart, Features, Sample
from crema_core.video.modality import VideoModality
from crema_core.video.plugin import SPEC
from crema_merv.group import EncoderGroup
from crema_merv.video_options import EncodersVideoOptions, with_encoders


class EncodersVideo(VideoModality):
    """RGB frames, each encoder's own, read from a clip once; without the option `encoders` as the video modality."""

    spec = with_encoders(SPEC)
    options: EncodersVideoOptions

    def __init__(self, options: EncodersVideoOptions, context: BuildContext) -> None:
        # Several encoders see in place of the backbone, also where that is a vision-language model.
        super().__init__(options, context if options.encoders is None else replace(context, reader=None))
        self.group: EncoderGroup | None = None
        if options.encoders is not None:
            self.group = EncoderGroup(
                options.encoders,
                num_frames=options.num_frames,
                dtype=context.dtype,
                frame_rule=options.encoder_frames,
                at_once=options.encoders_at_once,
            )

    @property
    def feature_parts(self) -> tuple[FeaturePart, ...]:
        """Sizes of what each of several encoders gives, for `unpack`; empty with a single encoder."""
        return () if self.group is None else self.group.layout

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's features; of several, the numbers of all together."""
        return super().feature_dim if self.group is None else self.group.feature_dim

    def load_assets(self, folder: Path | None) -> None:
        """Load the weights of all encoders.

        Raises:
            AssetError: when they cannot be had.
            OptionsError: when the numbers of frames do not fit the released rule.
        """
        if self.group is None:
            super().load_assets(folder)
        else:
            self.group.load()

    def prepare(self, source: object) -> Sample:
        """Read frames; of several encoders see `EncoderGroup.prepare`."""
        if self.group is None:
            return super().prepare(source)
        clip = self.read(source, num_frames=self.group.frames_wanted, pick=self.group.pick)
        return self.group.prepare(clip.frames, clip.times)

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, N, D)`; several encoders: -> `(B, 1, 1, feature_dim)`."""
        if self.group is None:
            return super().encode(batch)
        features: Features = self.group(batch)
        return features

    def show(self, source: object) -> torch.Tensor:
        """Return the frames that every encoder looks at, each with its time."""
        if self.group is None:
            return super().show(source)
        picked = RememberedPick(self.group.pick)
        clip = self.read(source, num_frames=self.group.frames_wanted, pick=picked)
        captions = times_as_captions(clip.times, len(clip.frames))
        if clip.times is None and len(picked.chosen) == len(clip.frames):
            captions = picked.captions
        panels = []
        for name, kept in self.group.frames_kept(len(clip.frames)).items():
            own = [captions[index] for index in kept]
            panels += [line(f"{name}:"), frames_panel(clip.frames[kept], own, has_times=clip.times is not None)]
        return stack(panels)
