"""The thermal sense: temperatures rendered as a heatmap, through the backbone's shared frozen vision encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crema_core.data.media import (
    ARRAY_SUFFIXES,
    CLIP_SUFFIXES,
    IMAGE_SUFFIXES,
    Reader,
    read_array,
    read_clip,
    read_raw_image,
    read_stack,
    resize,
)
from crema_core.errors import MediaError
from crema_core.modality import Batch, Features, Modality, Sample
from crema_thermal.plugin import SPEC, ThermalOptions
from crema_thermal.render import heatmap, to_celsius


class ThermalModality(Modality):
    """Heatmaps of radiometric images; finished 8-bit heatmaps are kept as they are."""

    spec = SPEC
    options: ThermalOptions

    def prepare(self, source: object) -> Sample:
        """Read temperatures.

        Args:
            source: a file, a folder or list of files, or an array: float kelvin or uint16 counts `(H, W)` or `(T, H,
                W)`, or a finished heatmap, uint8 `(H, W)` or `(H, W, 3)`.

        Returns:
            `frames` `(T, 3, S, S)` normalised, T is 1 for a single image.

        Raises:
            MediaError: when the source is absent, empty, damaged, of another type, or not a temperature.
        """
        if isinstance(source, str | Path) and str(source).lower().endswith(CLIP_SUFFIXES) and not Path(source).is_dir():
            clip = read_clip(source, num_frames=self.options.num_frames)
            frames = clip.frames
        else:
            frames = self._render(self._read_maps(source))
        return Sample({"frames": self.context.normalize(resize(frames, self.context.image_size))})

    def encode(self, batch: Batch) -> Features:
        """Encode every heatmap: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        return Features(self.context.encode_frames(batch["frames"]), batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a room with a warm spot somewhere, `(3, 24, 32)` float kelvin."""
        kelvin = 292 + 2 * torch.rand(3, 24, 32, generator=generator)
        left = int(torch.randint(0, 22, (), generator=generator))
        kelvin[:, 6:14, left : left + 10] += 15
        return kelvin

    def _read_maps(self, source: object) -> NDArray[np.generic]:
        readers: dict[str, Reader] = {
            **dict.fromkeys(IMAGE_SUFFIXES, read_raw_image),
            **dict.fromkeys(ARRAY_SUFFIXES, partial(read_array, key="thermal")),
        }
        return read_stack(
            source, what="a thermal image", readers=readers, num_frames=self.options.num_frames, color_bytes=True
        )

    def _render(self, maps: NDArray[np.generic]) -> Tensor:
        """Turn `(T, H, W)` or 8-bit `(T, H, W, 3)` into RGB `(T, 3, H, W)`."""
        if maps.dtype == np.uint8:
            rgb = maps if maps.ndim == 4 else np.repeat(maps[..., None], 3, axis=-1)
            return torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2)
        if maps.ndim == 4:
            raise MediaError(
                f"A colour image came with {maps.dtype} numbers. Colours are uint8, temperatures one number per pixel. "
                "Pass kelvin (H, W), or an 8-bit heatmap."
            )
        celsius = to_celsius(maps, self.options.counts_per_kelvin)
        return heatmap(celsius, self.options)
