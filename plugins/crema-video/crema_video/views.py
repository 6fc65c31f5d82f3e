"""The modality of further cameras: the frames of one instant in all views are the tokens of one step.

A line of a data set lists one source per camera; samples may have different numbers of them. Four views of 196 tokens
are 784 side tokens a frame, as in PAVE's experiment on exo-centric video.

Shape letters: B samples, T frames, V views, N tokens of a frame, D feature width, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crema_core.data.media import Clip, middle_indices, read_frames
from crema_core.data.sampling import RememberedPick
from crema_core.data.sheet import line, stack
from crema_core.errors import MediaError
from crema_core.modality import Batch, Features, Sample
from crema_core.video.seeing import SeeingModality
from crema_video.plugin import VIEWS, ViewsOptions
from crema_video.pooling import pool_grid


class ViewsModality(SeeingModality):
    """Frames of several cameras, those of one instant side by side."""

    spec = VIEWS
    options: ViewsOptions

    def prepare(self, source: object) -> Sample:
        """Read frames of all views.

        Args:
            source: a list with one source per camera, see `crema_core.data.images.read_frames`; or a single one.

        Returns:
            `frames` `(T, V, 3, S, S)` normalised; times of the first view, whose clock counts. A vision encoder that
            sees clips: `(steps, V, frames of a step, 3, S, S)`.

        Raises:
            MediaError: when a source cannot be read, or views have different numbers of frames.
        """
        samples = [
            self.encoder.prepare(clip.frames, clip.times, num_frames=self.options.num_frames)
            for clip, _ in self._read(source)
        ]
        _require_equal([len(sample.tensors["frames"]) for sample in samples])
        return Sample({"frames": torch.stack([sample.tensors["frames"] for sample in samples], 1)}, samples[0].times)

    def encode(self, batch: Batch) -> Features:
        """Encode every frame of every view: `(B, T, V, ..., 3, S, S)` -> `(B, T, V * pool * pool, D)`."""
        frames = batch["frames"]
        num_samples, num_views = frames.shape[0], frames.shape[2]
        single = frames.transpose(1, 2).flatten(0, 1)  # (B * V, T, ..., 3, S, S)
        steps = batch.mask.repeat_interleave(num_views, dim=0)
        encoded = super().encode(Batch({"frames": single}, steps))
        tokens = pool_grid(encoded.values, self.options.pool).unflatten(0, (num_samples, num_views))
        count = batch.sizes["frames"][:, 1]
        real = torch.arange(num_views, device=count.device) < count[:, None]  # (B, V)
        mask = batch.mask[:, :, None, None] & real[:, None, :, None].expand(-1, tokens.shape[2], -1, tokens.shape[3])
        return Features(tokens.transpose(1, 2).flatten(2, 3), mask.flatten(2), batch.times)

    def show(self, source: object) -> Tensor:
        """Return the frames of every view, a row per camera, each with its time."""
        views, num_frames = self._read(source), self.options.num_frames
        _require_equal([len(self.encoder.frames_kept(len(clip.frames), num_frames)) for clip, _ in views])
        panels = []
        for number, (clip, picked) in enumerate(views, start=1):
            panels += [line(f"camera {number} of {len(views)}")] if len(views) > 1 else []
            panels.append(self.draw_frames(clip.frames, clip.times, picked, num_frames=num_frames))
        return stack(panels)

    def example(self, generator: torch.Generator) -> list[Tensor]:
        """Return noise of two cameras, each `(6, 3, 40, 48)` uint8."""
        return [torch.randint(0, 256, (6, 3, 40, 48), generator=generator, dtype=torch.uint8) for _ in range(2)]

    def _read(self, source: object) -> list[tuple[Clip, RememberedPick]]:
        views = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
        if not views:
            raise MediaError(
                "A list of views is empty. Accepted: one source per camera. List the files, or leave the modality out."
            )
        wanted = self.encoder.frames_wanted(self.options.num_frames)
        picked = [RememberedPick(middle_indices) for _ in views]
        return [(read_frames(view, num_frames=wanted, pick=own), own) for view, own in zip(views, picked, strict=True)]


def _require_equal(counts: Sequence[int]) -> None:
    """Raise when views have different numbers of frames."""
    if len(set(counts)) > 1:
        raise MediaError(
            f"The views have {', '.join(map(str, counts))} frames. Views of one instant belong together, so all "
            "need as many. Give clips for all cameras, or one picture for each."
        )
