"""The encoder of a sense that sees: the backbone's shared one, or a tower of its own, behind one interface."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crema_core.data.frames import resize
from crema_core.data.sampling import middle_indices
from crema_core.modality import Batch, BuildContext, Features, Sample
from crema_core.video.towers import tower_class
from crema_core.video.towers.base import Tower
from crema_core.video.towers.options import BACKBONE, SeeingOptions


class SeeingEncoder(nn.Module):
    """Turns RGB frames into a prepared sample, and prepared batches into features.

    Args:
        options: which encoder.
        context: the backbone's side.

    Raises:
        OptionsError: when there is no encoder of this name.
    """

    def __init__(self, options: SeeingOptions, context: BuildContext) -> None:
        super().__init__()
        self.context = context
        self.tower: Tower | None = None
        if options.encoder != BACKBONE:
            self.tower = tower_class(options.encoder)(
                options.weights, revision=options.revision, layer=options.encoder_layer, dtype=context.dtype
            )

    @property
    def feature_dim(self) -> int:
        """Width of the features."""
        return self.context.vision_dim if self.tower is None else self.tower.feature_dim

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes."""
        return self.context.image_size if self.tower is None else self.tower.preprocessing.size

    def load(self) -> None:
        """Read the tower's weights."""
        if self.tower is not None:
            self.tower.load()

    def frames_wanted(self, num_frames: int) -> int:
        """Return how many frames to read when `num_frames` are asked for."""
        return num_frames if self.tower is None else self.tower.frames_wanted(num_frames)

    def prepare(self, frames_TCHW: Tensor, times_T2: Tensor | None = None, *, num_frames: int = 1) -> Sample:
        """Resize and normalise.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1.
            times_T2: when each frame is on screen.
            num_frames: what was asked for; a tower that sees clips gets a shorter source's frames repeated.

        Returns:
            `frames` `(T, 3, S, S)`, or `(steps, frames of a step, 3, S, S)` for an encoder that sees several frames
            together; times of every step.
        """
        if self.tower is None:
            frames = self.context.normalize(resize(frames_TCHW, self.context.image_size))
            return _in_steps(frames, times_T2, self.context.frames_per_step)
        if not self.tower.sees_clips:
            return Sample({"frames": self.tower.prepare(frames_TCHW)}, times_T2)
        wanted, joined = self.tower.frames_wanted(num_frames), self.tower.frames_per_step
        if len(frames_TCHW) != wanted:
            kept = middle_indices(len(frames_TCHW), wanted)
            frames_TCHW, times_T2 = frames_TCHW[kept], None if times_T2 is None else times_T2[kept]
        return _in_steps(self.tower.prepare(frames_TCHW), times_T2, joined)

    def forward(self, batch: Batch) -> Features:
        """Encode `frames` of a batch -> `(B, S, N, D)`."""
        frames = batch["frames"]
        if self.tower is None:
            return Features(self.context.encode_frames(frames), batch.mask, batch.times)
        if not self.tower.sees_clips:
            return Features(self.tower(frames), batch.mask, batch.times)
        return Features(self.tower(frames.flatten(1, 2)), batch.mask, batch.times)


def _in_steps(frames_TCHW: Tensor, times_T2: Tensor | None, joined: int) -> Sample:
    """Join frames that are looked at together; the last is repeated where one is missing (Qwen2-VL's processor)."""
    if joined == 1:
        return Sample({"frames": frames_TCHW}, times_T2)
    missing = -len(frames_TCHW) % joined
    if missing:
        frames_TCHW = torch.cat([frames_TCHW, frames_TCHW[-1:].expand(missing, -1, -1, -1)])
        times_T2 = None if times_T2 is None else torch.cat([times_T2, times_T2[-1:].expand(missing, -1)])
    if times_T2 is not None:
        times_T2 = torch.stack([times_T2[::joined, 0], times_T2[joined - 1 :: joined, 1]], dim=1)
    return Sample({"frames": frames_TCHW.unflatten(0, (-1, joined))}, times_T2)
