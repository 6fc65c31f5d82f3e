"""Pictures and clips as a vision-language model's own processor takes them: sizes, tiles, time stamps, text around.

Runs where media are read, also in worker processes, so it holds the processor and nothing of the model.

Shape letters: T frames, S ids, V steps of a sample (what the model sees of one picture or one moment).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.video_utils import VideoMetadata

from crema_core.errors import MediaError
from crema_core.modality import Batch, Sample
from crema_core.model.vlm.chat import VisualChat
from crema_core.model.vlm.traits import Traits
from crema_core.tokens import OWN_IDS, OWN_LAYOUT

GRIDS = ("video_grid_thw", "image_grid_thw")
"""Names of what processors give that count patches in time, rows and columns."""
CLOCK_HZ = 1000
"""Frames are numbered by milliseconds: processors count seconds from the numbers of frames."""
SECONDS_PER_FRAME = 1.0
"""Taken for frames without a clock, such as arrays."""


@dataclass(frozen=True)
class VisualReader:
    """Makes samples of frames.

    Attributes:
        processor: of transformers.
        chat: for the text that stands for a picture or a clip.
        traits: of the family.
        placeholders: ids that visual tokens take the place of.
        arguments: names of arguments the model's forward pass takes.
        begin: id of the begin token, which belongs before the whole prompt; None where there is none.
    """

    processor: Any
    chat: VisualChat
    traits: Traits
    placeholders: tuple[int, ...]
    arguments: frozenset[str]
    begin: int | None = None

    @property
    def takes_clips(self) -> bool:
        """Whether the processor takes clips as such."""
        return self.chat.clip is not None

    def prepare(self, frames_TCHW: Tensor, times_T2: Tensor | None = None) -> Sample:
        """Run the processor on a picture or a clip.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1, of any size.
            times_T2: `(T, 2)` seconds, when each is on screen; None: a single frame is a picture, several follow each
                other second by second.

        Returns:
            What the model's forward pass takes beside the prompt, without the batch dimension of ids; times of every
            step where there is a clock.

        Raises:
            MediaError: when the processor refuses the frames.
        """
        frames = frames_TCHW if frames_TCHW.dtype == torch.uint8 else (frames_TCHW * 255).round().clamp(0, 255).byte()
        still = len(frames) == 1 and times_T2 is None
        try:
            found = self._picture(frames[:1]) if still else self._clip(frames, times_T2)
        except (ValueError, TypeError, RuntimeError) as error:
            raise MediaError(
                f"The processor of this backbone refuses {len(frames)} frames of {frames.shape[3]} x "
                f"{frames.shape[2]} pixels: {error}. Accepted: pictures it can cut into patches. Give larger frames."
            ) from error
        tensors = {name: torch.as_tensor(value) for name, value in found.items() if name in self.arguments}
        ids = tensors.pop("input_ids")
        for name in ("attention_mask", "labels"):
            tensors.pop(name, None)
        # given per token: without the batch dimension, as the ids
        tensors = {name: value[0] if value.shape[:2] == ids.shape else value for name, value in tensors.items()}
        layout = self._layout(ids[0], tensors, num_frames=None if still else len(frames))
        tensors |= {OWN_IDS: ids[0], OWN_LAYOUT: torch.tensor(layout)}
        return Sample(tensors, None if times_T2 is None else _joined(times_T2, len(layout)))

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Stack samples; each is taken out again as it was."""
        names = dict.fromkeys(name for sample in samples for name in sample.tensors)
        tensors = {name: _stacked([sample.tensors.get(name) for sample in samples]) for name in names}
        sizes = {
            name: torch.tensor(
                [
                    list(sample.tensors[name].shape) if name in sample.tensors else [0] * (own.dim() - 1)
                    for sample in samples
                ]
            )
            for name, own in tensors.items()
        }
        steps = [len(sample.tensors[OWN_LAYOUT]) for sample in samples]
        mask = torch.arange(max(steps)) < torch.tensor(steps)[:, None]
        times = None
        if any(sample.times is not None for sample in samples):
            times = torch.full((*mask.shape, 2), torch.nan)
            for row, sample in zip(times, samples, strict=True):
                if sample.times is not None:
                    row[: len(sample.times)] = sample.times
        return Batch(tensors, mask, sizes, times)

    def picture_inputs(self, frames_MCHW: Tensor) -> dict[str, Any]:
        """Return the inputs of the forward pass for a prompt of nothing but pictures."""
        images = _pictures(frames_MCHW.cpu())
        found = self._run(self.chat.picture * len(images), images=images, **self.traits.picture_settings)
        return {name: value for name, value in found.items() if name in self.arguments}

    def _picture(self, frames: Tensor) -> Mapping[str, Any]:
        return self._run(self.chat.picture, images=_pictures(frames), **self.traits.picture_settings)

    def _clip(self, frames: Tensor, times_T2: Tensor | None) -> Mapping[str, Any]:
        count, _, height, width = frames.shape
        seconds, duration = torch.arange(count).double() * SECONDS_PER_FRAME, count * SECONDS_PER_FRAME
        if times_T2 is not None:  # a frame is the middle one of the time it stands for
            seconds, duration = times_T2.double().mean(1), float(times_T2[-1, 1] - times_T2[0, 0])
        if not self.takes_clips:
            text = "".join(
                self.traits.frame.format(index=index + 1, seconds=second) + self.chat.picture
                for index, second in enumerate(seconds.tolist())
            )
            return self._run(text, images=_pictures(frames), **self.traits.picture_settings)
        metadata = VideoMetadata(
            total_num_frames=max(count, round(duration * CLOCK_HZ)),
            fps=CLOCK_HZ,
            width=width,
            height=height,
            duration=duration,
            frames_indices=(seconds * CLOCK_HZ).round().long().tolist(),
        )
        settings = {"do_sample_frames": False, "video_metadata": [metadata], **self.traits.clip_settings}
        if self.traits.clip_rate:
            settings |= {"fps": count / duration, "size": dict(self.processor.video_processor.size)}
        return self._run(str(self.chat.clip), videos=[_array(frames)], **settings)

    def _run(self, text: str, **media: Any) -> Mapping[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that a checkpoint brings along
            found: Mapping[str, Any] = self.processor(
                text=[text], return_tensors="pt", add_special_tokens=False, **media
            )
        return self._of_media(dict(found))

    def _of_media(self, found: dict[str, Any]) -> dict[str, Any]:
        """Leave out ids that do not belong to the pictures: a begin token, or all but the placeholders."""
        ids = found["input_ids"]
        keep = torch.ones_like(ids[0], dtype=torch.bool)
        if self.traits.bare:
            keep = torch.isin(ids[0], torch.tensor(self.placeholders))
        elif self.begin is not None and int(ids[0, 0]) == self.begin:
            keep[0] = False
        shape = ids.shape
        return {
            name: value[:, keep] if getattr(value, "shape", ())[:2] == shape else value for name, value in found.items()
        }

    def _layout(self, ids_S: Tensor, tensors: Mapping[str, Tensor], *, num_frames: int | None) -> list[tuple[int, int]]:
        """Return rows and columns of every step: of grids that the processor counts, of runs of placeholders, or of
        equal shares.

        Args:
            ids_S: with the placeholders.
            tensors: what else the processor gave.
            num_frames: of a clip; None: a picture.
        """
        own_S = torch.isin(ids_S, torch.tensor(self.placeholders))
        count, runs = int(own_S.sum()), runs_of(own_S)
        for name in GRIDS:
            if name in tensors and (found := _joined_grids(tensors[name].tolist(), count)):
                return found
        sizes = {stop - start for start, stop in runs}
        if len(runs) > 1 and (num_frames or 1) > 1 and len(sizes) == 1:
            return [_square(sizes.pop())] * len(runs)
        steps = num_frames or 1
        inside = count if num_frames is None else count - self.traits.closing
        if inside % steps:
            return [(1, count)]
        size = inside // steps
        return [_square(size) if len(runs) in (1, steps) else (1, size)] * steps


def _joined_grids(grids: Sequence[Sequence[int]], count: int) -> list[tuple[int, int]]:
    """Return rows and columns of every step of grids (steps, rows, columns) whose cells are joined to `count` tokens.

    Nothing where no number of cells across and of steps fits.

    Example:
        >>> _joined_grids([[2, 4, 6]], count=12)
        [(2, 3), (2, 3)]
    """
    joined, left = divmod(sum(math.prod(grid) for grid in grids), max(count, 1))
    for across in range(math.isqrt(joined), 0, -1):
        deep, rest = divmod(joined, across**2)
        fits = all(t % deep == 0 and h % across == 0 and w % across == 0 for t, h, w in grids) if deep else False
        if not left and not rest and fits:
            return [(h // across, w // across) for t, h, w in grids for _ in range(t // deep)]
    return []


def _square(count: int) -> tuple[int, int]:
    side = math.isqrt(count)
    return (side, side) if side * side == count else (1, count)


def runs_of(own_S: Tensor) -> list[tuple[int, int]]:
    """Return first and last-but-one position of every run of True.

    Example:
        >>> runs_of(torch.tensor([False, True, True, False, True]))
        [(1, 3), (4, 5)]
    """
    edges = list(enumerate(pairwise([False, *own_S.tolist(), False])))
    starts = [place for place, (before, now) in edges if now and not before]
    stops = [place for place, (before, now) in edges if before and not now]
    return list(zip(starts, stops, strict=True))


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor:
    """Stack tensors of one number of dimensions, filled up with zeros; None has no extent."""
    some = next(tensor for tensor in tensors if tensor is not None)
    largest = [max(sizes) for sizes in zip(*(own.shape for own in tensors if own is not None), strict=True)]
    out = some.new_zeros(len(tensors), *largest)
    for row, tensor in zip(out, tensors, strict=True):
        if tensor is not None:
            row[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return out


def _pictures(frames_TCHW: Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in _array(frames_TCHW)]


def _array(frames_TCHW: Tensor) -> Any:
    return frames_TCHW.permute(0, 2, 3, 1).contiguous().numpy()


def _joined(times_T2: Tensor, steps: int) -> Tensor:
    """Return the times of steps: of equally many frames each, the last one perhaps of fewer, or several of a frame."""
    if steps > len(times_T2) and steps % len(times_T2) == 0:  # tiles
        return times_T2.repeat_interleave(steps // len(times_T2), 0)
    joined = -(-len(times_T2) // steps)
    last = [min(start + joined, len(times_T2)) - 1 for start in range(0, joined * steps, joined)]
    first = [min(start, len(times_T2) - 1) for start in range(0, joined * steps, joined)]
    return torch.stack([times_T2[first, 0], times_T2[last, 1]], dim=1)
