"""The touch modality: images of a tactile sensor through the backbone's frozen vision encoder or one of its own."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from crema_core.data.media import Clip, middle_indices, read_frames, resize
from crema_core.data.sampling import RememberedPick
from crema_core.data.sheet import line, stack
from crema_core.errors import MediaError
from crema_core.modality import Sample
from crema_core.video.seeing import SeeingModality
from crema_touch.contact import frames_in_contact, median_of
from crema_touch.plugin import AUTO, SPEC, TouchOptions

TOUCH_AND_GO = ("gelsight_frame", "gelsight.mp4")
"""What a recording's folder of the Touch and Go data set has for the sensor."""
NUM_SEARCHED = 64
"""Frames of a recording among which those with contact are looked for."""


class TouchModality(SeeingModality):
    """Tactile images, optionally as the difference to an image without contact."""

    spec = SPEC
    options: TouchOptions

    def prepare(self, source: object) -> Sample:
        """Read tactile images.

        Args:
            source: an image, a folder or list of images, a folder as in Touch and Go, a recording, or an array; see
                `read_frames` of core.

        Returns:
            `frames` `(T, 3, S, S)` normalised; T is 1 for a single image.

        Raises:
            MediaError: when the source or the background is absent, empty, damaged or of another type, or has too few
                frames to find the background in.
        """
        return self.encoder.prepare(self._read(source).frames, num_frames=self.options.num_frames)

    def show(self, source: object) -> Tensor:
        """Return the images as the encoder gets them, before it normalises, at the proportions of the sensor."""
        picked = RememberedPick(middle_indices)
        clip = self._read(source, picked)
        height, width = read_frames(locate(source), num_frames=1).frames.shape[-2:]
        side = clip.frames.shape[-1]
        size = (side, max(round(side * width / height), 1))
        wide = torch.nn.functional.interpolate(clip.frames, size, mode="bilinear")
        how = "grey: no contact, colours: pressed" if self.options.background is not None else "as recorded"
        note = f"{how}; sensor {width} x {height}, encoder {side} x {side} pixels"
        drawn = self.draw_frames(wide, clip.times, picked, num_frames=self.options.num_frames)
        return stack([drawn, line(note)])

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a smooth random relief `(3, 3, 32, 40)` float in 0..1, a recording of three frames."""
        coarse = torch.rand(3, 3, 4, 5, generator=generator)
        return torch.nn.functional.interpolate(coarse, size=(32, 40), mode="bilinear")

    def _read(self, source: object, picked: RememberedPick | None = None) -> Clip:
        """Return frames `(T, 3, S, S)` in 0..1, as the encoder will see them before it normalises.

        Args:
            source: as of `prepare`.
            picked: is told which frames are taken.
        """
        picked = picked or RememberedPick(middle_indices)
        options, size = self.options, self.encoder.image_size
        source = locate(source)
        wanted = self.encoder.frames_wanted(options.num_frames)
        searched = wanted if not options.only_contact else max(NUM_SEARCHED, wanted)
        background = self._background(source)
        read, times = read_frames(source, num_frames=searched, pick=picked)
        frames = resize(read, size)
        if background is None:
            return Clip(frames, times)
        background = resize(background, size)
        if options.only_contact and len(frames) > wanted:
            touching = frames_in_contact(frames, background)
            kept = [touching[index] for index in middle_indices(len(touching), wanted)]
            frames, times = frames[kept], None if times is None else times[kept]
            picked.chosen = [picked.chosen[index] for index in kept]
        return Clip(subtract_background(frames, background), times)

    def _background(self, source: object) -> Tensor | None:
        options = self.options
        if options.background is None:
            return None
        if options.background != AUTO:
            return read_frames(options.background, num_frames=1).frames
        # Many frames are asked for so that the first ones are near the beginning.
        recording = read_frames(source, num_frames=max(NUM_SEARCHED, options.background_frames)).frames
        if len(recording) == 1:
            raise MediaError(
                "A single tactile image has no frames before contact, and background='auto' takes it from those. It "
                "needs a recording. Name an image without contact as background, or leave background out."
            )
        return median_of(recording[: options.background_frames])


def locate(source: object) -> object:
    """Return what holds the sensor's images: inside a folder of Touch and Go, or the source itself."""
    if isinstance(source, str | os.PathLike):
        for name in TOUCH_AND_GO:
            if (Path(source) / name).exists():
                return Path(source) / name
    return source


def subtract_background(frames: Tensor, background: Tensor) -> Tensor:
    """Return `(frames - background) / 2 + 0.5`: 0.5 means no change.

    Args:
        frames: `(T, 3, S, S)` in 0..1.
        background: `(1, 3, S, S)` in 0..1.
    """
    return (frames - background) / 2 + 0.5
