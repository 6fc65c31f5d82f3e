"""Several frozen encoders that see one clip (the paper's "visual encoders").

The clip is read once. Every encoder gets the frames and pixels it wants and keeps its own steps, grid and width; what
they say travels as one flat tensor (`layout.py`). The released code runs its encoders one after another and mirrors the
pictures of one of them at random; here nothing is random, and on a GPU they run side by side.

Shape letters: B samples, T frames or steps of one encoder, N patches of a step, D width, P numbers of all encoders.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from crema_core.data.media import resize
from crema_core.data.sampling import Pick, middle_indices
from crema_core.errors import OptionsError
from crema_core.modality import Batch, FeaturePart, Features, Sample
from crema_core.video.vision_encoder import Preprocessing, VisionEncoder, vision_encoder_class
from crema_merv.layout import pack
from crema_merv.video_options import EncoderOptions

FrameRule = Literal["middle", "released"]


class EncoderGroup(nn.Module):
    """Turn RGB frames into a prepared sample, and prepared batches into the features of all encoders.

    Args:
        encoders: which, in the order of mixing.
        num_frames: frames of those that do not say how many.
        dtype: number format of the weights.
        frame_rule: "middle" (the middle ones of equal segments, for each encoder) or "released" (every so many of the
            frames of the one with most, from the first on).
        at_once: run side by side on a GPU.

    Raises:
        OptionsError: when there is no encoder of a name.
    """

    def __init__(
        self,
        encoders: Sequence[EncoderOptions],
        *,
        num_frames: int,
        dtype: torch.dtype = torch.float32,
        frame_rule: FrameRule = "middle",
        at_once: bool = True,
    ) -> None:
        super().__init__()
        self.encoders, self.num_frames = tuple(encoders), num_frames
        self.frame_rule, self.at_once = frame_rule, at_once
        self.names = _unique([encoder.name for encoder in encoders])
        self.vision_encoders = nn.ModuleList(_encoder(encoder, dtype) for encoder in encoders)

    @property
    def layout(self) -> tuple[FeaturePart, ...]:
        """Sizes of what every encoder gives for a clip."""
        return tuple(
            FeaturePart(
                name, frames // vision_encoder.frames_per_step, *vision_encoder.grid, vision_encoder.feature_dim
            )
            for name, frames, vision_encoder in zip(self.names, self.frames, self._encoders(), strict=True)
        )

    @property
    def feature_dim(self) -> int:
        """P."""
        return sum(encoder.numel for encoder in self.layout)

    @property
    def frames(self) -> tuple[int, ...]:
        """How many frames every encoder sees."""
        wanted = [encoder.num_frames or self.num_frames for encoder in self.encoders]
        return tuple(
            vision_encoder.frames_wanted(count) for vision_encoder, count in zip(self._encoders(), wanted, strict=True)
        )

    @property
    def frames_wanted(self) -> int:
        """How many frames to read of a clip: as many as the encoder with most sees."""
        return max(self.frames)

    @property
    def pick(self) -> Pick:
        """Which frames to read of a clip."""
        return middle_indices if self.frame_rule == "middle" else spread_indices

    def load(self) -> None:
        """Read all weights.

        Raises:
            AssetError: when some cannot be had.
            OptionsError: when the numbers of frames do not fit the released rule.
        """
        most = self.frames_wanted
        if self.frame_rule == "released" and any(most % count for count in self.frames):
            told = ", ".join(f"{name} {count}" for name, count in zip(self.names, self.frames, strict=True))
            raise OptionsError(
                f"encoder_frames='released' was set with encoders that see {told} frames. The most must be a multiple "
                "of each. Change num_frames of an encoder, or use encoder_frames='middle'."
            )
        for vision_encoder in self._encoders():
            vision_encoder.load()

    def prepare(self, frames_TCHW: Tensor, times_T2: Tensor | None = None) -> Sample:
        """Give every encoder its frames and pixels.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1, `frames_wanted` or fewer (a picture is one).
            times_T2: when each frame is on screen.

        Returns:
            For every encoder a tensor of its name `(1, its frames, 3, S, S)`; the time of the whole clip. One static
            step, so that encoders with other numbers of frames share a sample.
        """
        tensors = {}
        kept = self.frames_kept(len(frames_TCHW))
        for name, encoder, vision_encoder in zip(self.names, self.encoders, self._encoders(), strict=True):
            seen = frames_TCHW[kept[name]]
            as_trained, wanted = encoder.resize == "trained", vision_encoder.preprocessing
            pixels = resize_as_trained(seen, wanted) if as_trained else resize(seen, wanted.size)
            tensors[name] = wanted.normalize(pixels)[None]
        clock = None if times_T2 is None else torch.stack([times_T2[0, 0], times_T2[-1, 1]])[None]
        return Sample(tensors, clock)

    def frames_kept(self, num_read: int) -> dict[str, list[int]]:
        """Return for every encoder, by its name, which of the frames that were read it sees."""
        return {name: self._kept(num_read, count) for name, count in zip(self.names, self.frames, strict=True)}

    def _kept(self, available: int, count: int) -> list[int]:
        if self.frame_rule == "released" and available % count == 0:
            return list(range(0, available, available // count))
        return middle_indices(available, count)

    def forward(self, batch: Batch) -> Features:
        """Encode a batch -> `(B, 1, 1, P)`, see `unpack`."""
        frames = [batch[name].squeeze(1) for name in self.names]
        side_by_side = self.at_once and frames[0].is_cuda and len(frames) > 1
        encode = encode_at_once if side_by_side else encode_in_turn
        return Features(pack(encode(self._encoders(), frames)), batch.mask, batch.times)

    def _encoders(self) -> list[VisionEncoder]:
        return [vision_encoder for vision_encoder in self.vision_encoders if isinstance(vision_encoder, VisionEncoder)]


def encode_in_turn(vision_encoders: Sequence[VisionEncoder], frames: Sequence[Tensor]) -> list[Tensor]:
    """Run one encoder after another: on a CPU each of them already fills all cores.

    Args:
        vision encoders: of every encoder.
        frames: of every encoder `(B, T, 3, S, S)`.

    Returns:
        Of every encoder `(B, T, N, D)`.
    """
    return [vision_encoder(pixels) for vision_encoder, pixels in zip(vision_encoders, frames, strict=True)]


def encode_at_once(vision_encoders: Sequence[VisionEncoder], frames: Sequence[Tensor]) -> list[Tensor]:
    """Run every encoder on a CUDA stream of its own; the same numbers as one after another.

    Arguments and result as of `encode_in_turn`, on one CUDA device.
    """
    device = frames[0].device
    main, streams = torch.cuda.current_stream(device), _streams(device, len(vision_encoders))
    encoded = []
    for vision_encoder, pixels, stream in zip(vision_encoders, frames, streams, strict=True):
        stream.wait_stream(main)  # pixels and weights may still be on their way
        with torch.cuda.stream(stream):
            encoded.append(vision_encoder(pixels))
        # The allocator must not hand out this memory before the other stream is done with it.
        pixels.record_stream(stream)
        encoded[-1].record_stream(main)
    for stream in streams:
        main.wait_stream(stream)
    return encoded


@functools.cache
def _streams(device: torch.device, count: int) -> list[torch.cuda.Stream]:
    # The same ones every time: the allocator keeps freed memory of every stream apart.
    return [torch.cuda.Stream(device) for _ in range(count)]


def _encoder(encoder: EncoderOptions, dtype: torch.dtype) -> VisionEncoder:
    size = {} if encoder.image_size is None else {"image_size": encoder.image_size}
    found = vision_encoder_class(encoder.name)
    return found(encoder.weights, revision=encoder.revision, layer=encoder.layer, dtype=dtype, **size)


def _unique(names: Sequence[str]) -> list[str]:
    """Number names that come again: timm, timm_2."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique


def resize_as_trained(frames_TCHW: Tensor, wanted: Preprocessing) -> Tensor:
    """Resize as the vision encoder's own preprocessor, antialiased; nothing is random.

    Args:
        frames_TCHW: `(T, 3, H, W)`, uint8 0..255 or float 0..1.
        wanted: of the vision encoder.

    Returns:
        `(T, 3, size, size)` float32 0..1.
    """
    values = frames_TCHW.float() / 255 if frames_TCHW.dtype == torch.uint8 else frames_TCHW.float()
    height, width = values.shape[-2:]
    target = (wanted.size, wanted.size)
    if wanted.shorter is not None:
        scale = wanted.shorter / min(height, width)
        # The shorter side exactly, the longer one cut to whole pixels; never smaller than the square cut out of it.
        rows, columns = (max(int(side * scale + 1e-6), wanted.size) for side in (height, width))
        target = (rows, columns)
    if values.shape[-2:] != target:
        values = interpolate(values, size=target, mode=wanted.interpolation, antialias=True, align_corners=False)
    top, left = (target[0] - wanted.size) // 2, (target[1] - wanted.size) // 2
    return values[..., top : top + wanted.size, left : left + wanted.size].clamp(0, 1)


def spread_indices(num_available: int, num_wanted: int) -> list[int]:
    """Return equally spaced indices from the first frame to the last, as the released code takes them.

    >>> spread_indices(16, 4)
    [0, 5, 10, 15]
    >>> spread_indices(16, 1)
    [0]
    """
    return [(num_available - 1) * index // max(num_wanted - 1, 1) for index in range(num_wanted)]
