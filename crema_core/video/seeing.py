"""Modalities that see: a subclass makes RGB frames, the backbone's shared vision encoder or another encodes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from crema_core.data.images import resize
from crema_core.data.sampling import RememberedPick, middle_indices
from crema_core.data.sheet import frames_panel, times_as_captions
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalityOptions
from crema_core.video.options import BACKBONE, SeeingOptions
from crema_core.video.vision_encoder import VisionEncoder, vision_encoder_class


class SeeingModality(Modality):
    """A modality whose tokens are those of a frozen vision encoder; a subclass turns sources into frames.

    Args:
        options: which encoder, and more of the subclass's own.
        context: the backbone's side.

    Example:
        A subclass defines `example` and `prepare`, which ends so::

            return self.encoder.prepare(frames_TCHW, num_frames=self.options.num_frames)
    """

    options: SeeingOptions

    def __init__(self, options: SeeingOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.encoder = SeeingEncoder(options, context)

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's features."""
        return self.encoder.feature_dim

    @property
    def own_tokens(self) -> bool:
        """Whether it sees as a vision-language model was trained to."""
        return self.encoder.reader is not None

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Pad samples, or stack what a vision-language model's processor made."""
        reader = self.encoder.reader
        return super().collate(samples) if reader is None else reader.collate(samples)

    def load_assets(self, folder: Path | None) -> None:
        """Load a vision encoder's weights.

        Raises:
            AssetError: when they cannot be had.
        """
        self.encoder.load()

    def encode(self, batch: Batch) -> Features:
        """Encode every frame: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        features: Features = self.encoder(batch)
        return features

    def draw_frames(
        self, frames_TCHW: Tensor, times_T2: Tensor | None, picked: RememberedPick, *, num_frames: int
    ) -> Tensor:
        """Return the frames that are looked at, each with its time, for `show`.

        Args:
            frames_TCHW: `(T, 3, H, W)`, what `prepare` hands to the encoder.
            times_T2: when each is on screen, or None.
            picked: which of the source's they are, where there are no times.
            num_frames: what was asked for.

        Returns:
            `(rows, columns, 3)` uint8 pixels.
        """
        captions = times_as_captions(times_T2, len(frames_TCHW))
        if times_T2 is None and len(picked.chosen) == len(frames_TCHW):
            captions = picked.captions
        kept = self.encoder.frames_kept(len(frames_TCHW), num_frames)
        return frames_panel(frames_TCHW[kept], [captions[index] for index in kept], has_times=times_T2 is not None)


class SeeingEncoder(nn.Module):
    """Turn RGB frames into a prepared sample, and prepared batches into features.

    Args:
        options: which encoder.
        context: the backbone's side.

    Raises:
        OptionsError: when there is no encoder of this name.
    """

    def __init__(self, options: SeeingOptions, context: BuildContext) -> None:
        super().__init__()
        self.context = context
        self.vision_encoder: VisionEncoder | None = None
        self.reader = context.reader if options.encoder == BACKBONE and options.own_tokens else None
        if options.encoder != BACKBONE:
            found = vision_encoder_class(options.encoder)
            with registry.in_use("encoder", options.encoder, f"making {found.__name__}"):
                self.vision_encoder = found(
                    options.weights, revision=options.revision, layer=options.encoder_layer, dtype=context.dtype
                )

    @property
    def feature_dim(self) -> int:
        """Width of the features."""
        if self.reader is not None:
            return self.context.own_dim
        return self.context.vision_dim if self.vision_encoder is None else self.vision_encoder.feature_dim

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes."""
        return self.context.image_size if self.vision_encoder is None else self.vision_encoder.preprocessing.size

    def load(self) -> None:
        """Read the vision encoder's weights."""
        if self.vision_encoder is not None:
            self.vision_encoder.load()

    def frames_wanted(self, num_frames: int) -> int:
        """Return how many frames to read when `num_frames` are asked for."""
        return num_frames if self.vision_encoder is None else self.vision_encoder.frames_wanted(num_frames)

    def frames_kept(self, num_read: int, num_frames: int = 1) -> list[int]:
        """Return which of the frames that were read are looked at, by number; a number comes again where one repeats.

        Args:
            num_read: how many there are.
            num_frames: what was asked for.
        """
        if self.reader is None and self.vision_encoder is not None and self.vision_encoder.sees_clips:
            wanted = self.vision_encoder.frames_wanted(num_frames)
            if num_read != wanted:
                return middle_indices(num_read, wanted)
        return list(range(num_read))

    def prepare(self, frames_TCHW: Tensor, times_T2: Tensor | None = None, *, num_frames: int = 1) -> Sample:
        """Resize and normalise.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1.
            times_T2: when each frame is on screen.
            num_frames: what was asked for; a vision encoder that sees clips gets a shorter source's frames repeated.

        Returns:
            `frames` `(T, 3, S, S)`, or `(steps, frames of a step, 3, S, S)` for an encoder that sees several frames
            together; times of every step.
        """
        if self.reader is not None:
            return self.reader.prepare(frames_TCHW, times_T2)
        if self.vision_encoder is None:
            return prepare_for_backbone(frames_TCHW, times_T2, context=self.context)
        if not self.vision_encoder.sees_clips:
            return Sample({"frames": self.vision_encoder.prepare(frames_TCHW)}, times_T2)
        kept = self.frames_kept(len(frames_TCHW), num_frames)
        if kept != list(range(len(frames_TCHW))):
            frames_TCHW, times_T2 = frames_TCHW[kept], None if times_T2 is None else times_T2[kept]
        return _in_steps(self.vision_encoder.prepare(frames_TCHW), times_T2, self.vision_encoder.frames_per_step)

    def forward(self, batch: Batch) -> Features:
        """Encode `frames` of a batch -> `(B, S, N, D)`."""
        if self.reader is not None:
            assert self.context.encode_own is not None, "the main process encodes"
            return self.context.encode_own(batch)
        frames = batch["frames"]
        if self.vision_encoder is None:
            return encode_by_backbone(batch, context=self.context)
        if not self.vision_encoder.sees_clips:
            return Features(self.vision_encoder(frames), batch.mask, batch.times)
        return Features(self.vision_encoder(frames.flatten(1, 2)), batch.mask, batch.times)


Options = TypeVar("Options", bound=ModalityOptions)


def with_usual_frames(options: Options, context: BuildContext) -> Options:
    """Return options whose `num_frames`, where nobody chose it, is what the backbone was made for.

    Options that name another vision encoder than the backbone's are returned as they are.

    Args:
        options: with a field `num_frames`.
        context: the backbone's side.
    """
    elsewhere = isinstance(options, SeeingOptions) and options.encoder != BACKBONE
    if context.usual_frames is None or elsewhere or "num_frames" in options.model_fields_set:
        return options
    return options.model_copy(update={"num_frames": context.usual_frames})


def prepare_for_backbone(frames_TCHW: Tensor, times_T2: Tensor | None = None, *, context: BuildContext) -> Sample:
    """Turn RGB frames into a prepared sample for the backbone's vision encoder.

    Args:
        frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1.
        times_T2: when each frame is on screen.
        context: the backbone's side.

    Returns:
        `frames` `(T, 3, S, S)`; `(1, T, 3, S, S)`, one step, where it sees whole clips.
    """
    if context.pictures is None:
        frames = context.normalize(resize(frames_TCHW, context.image_size))
    else:
        frames = context.pictures(frames_TCHW)
    if context.whole_clips:
        span = None if times_T2 is None else torch.stack([times_T2[0, 0], times_T2[-1, 1]])[None]
        return Sample({"frames": frames[None]}, span)
    return Sample({"frames": frames}, times_T2)


def encode_by_backbone(batch: Batch, *, context: BuildContext) -> Features:
    """Encode `frames` of a batch by the backbone's vision encoder -> `(B, S, N, D)`; see `prepare_for_backbone`.

    Whole clips of different lengths have different numbers of tokens: shorter ones are padded and masked.
    """
    frames = batch["frames"]
    if not context.whole_clips:
        return Features(context.encode_frames(frames), batch.mask, batch.times)
    sizes = batch.sizes.get("frames")
    lengths = torch.full((len(frames),), frames.shape[2]) if sizes is None else sizes[:, 1].cpu()
    different: list[int] = lengths.unique().tolist()
    if len(different) == 1:
        return Features(context.encode_frames(frames[:, :, : different[0]]), batch.mask, batch.times)
    by_length = {length: (lengths == length).nonzero()[:, 0].to(frames.device) for length in different}
    tokens = {length: context.encode_frames(frames[rows, :, :length]) for length, rows in by_length.items()}
    longest = max(own.shape[2] for own in tokens.values())
    any_tokens = tokens[different[0]]
    values = any_tokens.new_zeros(len(frames), any_tokens.shape[1], longest, any_tokens.shape[3])
    mask_BSN = torch.zeros(values.shape[:3], dtype=torch.bool, device=values.device)
    for length, rows in by_length.items():
        values[rows, :, : tokens[length].shape[2]] = tokens[length]
        mask_BSN[rows, :, : tokens[length].shape[2]] = True
    return Features(values, mask_BSN & batch.mask[:, :, None], batch.times)


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
