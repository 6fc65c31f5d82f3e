"""The thermal modality: temperatures rendered as a heatmap, through the backbone's shared frozen vision encoder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crema_core.data.media import (
    ARRAY_SUFFIXES,
    CLIP_SUFFIXES,
    IMAGE_SUFFIXES,
    Pages,
    Reader,
    doubt,
    file_of,
    middle_indices,
    name_of,
    read_array,
    read_clip,
    read_pages,
    read_stack,
)
from crema_core.data.sampling import Pick, RememberedPick
from crema_core.data.sheet import line, scale_bar, stack
from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Sample
from crema_core.video.seeing import SeeingModality, with_usual_frames
from crema_thermal.flir import is_flir, read_flir, refuse_dji
from crema_thermal.plugin import SPEC, ThermalOptions
from crema_thermal.render import ZERO_CELSIUS_K, flat_hint, heatmap, to_celsius, window_of

NEARLY_ALL = 0.9
"""From this share of pixels on outside the window a heatmap shows next to nothing."""


class _Read(NamedTuple):
    """What a source holds: finished pictures `(T, 3, H, W)` uint8, or degrees Celsius `(T, H, W)` and no pictures."""

    frames: Tensor
    celsius: Tensor | None
    times: Tensor | None = None  # when each picture of a clip is on screen


class ThermalModality(SeeingModality):
    """Heatmaps of radiometric images; finished 8-bit heatmaps are kept as they are."""

    spec = SPEC
    options: ThermalOptions

    def __init__(self, options: ThermalOptions, context: BuildContext) -> None:
        super().__init__(with_usual_frames(options, context), context)

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
        frames = self._frames(source)
        return self.encoder.prepare(frames, num_frames=self.options.num_frames)

    def show(self, source: object) -> Tensor:
        """Return the heatmaps with what their colours stand for."""
        options, picked = self.options, RememberedPick(middle_indices)
        read = self._read(source, picked)
        if read.celsius is None:
            drawn = self.draw_frames(read.frames, read.times, picked, num_frames=options.num_frames)
            return stack([drawn, line("finished heatmap, kept as it is: its colours' temperatures are not known")])
        drawn = self.draw_frames(heatmap(read.celsius, options), None, picked, num_frames=options.num_frames)
        low, high = window_of(read.celsius, options)
        bar = scale_bar(options.colormap, f"{low:.1f} °C", f"{high:.1f} °C")
        outside = float(((read.celsius < low) | (read.celsius > high)).float().mean())
        note = (
            f"measured {float(read.celsius.min()):.1f} to {float(read.celsius.max()):.1f} °C, "
            f"{100 * outside:.0f} % outside the window ({options.window})"
        )
        panels = [drawn, bar, line(note)]
        if hint := flat_hint(read.celsius, options):
            doubt("thermal: flat", f"{name_of(source)} {hint}")
            panels.append(
                line("flat, nearly one colour: a narrower coldest_c to hottest_c or window='per_clip' shows more")
            )
        return stack(panels)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a room with a warm spot somewhere, `(3, 24, 32)` float kelvin."""
        kelvin = 292 + 2 * torch.rand(3, 24, 32, generator=generator)
        left = int(torch.randint(0, 22, (), generator=generator))
        kelvin[:, 6:14, left : left + 10] += 15
        return kelvin

    def _frames(self, source: object) -> Tensor:
        """Return heatmaps `(T, 3, H, W)`, uint8 0..255 or float 0..1."""
        read = self._read(source)
        return read.frames if read.celsius is None else heatmap(read.celsius, self.options)

    def _read(self, source: object, pick: Pick = middle_indices) -> _Read:
        if isinstance(source, str | os.PathLike):
            path = Path(file_of(str(source)))
            if path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir():
                wanted = self.encoder.frames_wanted(self.options.num_frames)
                clip = read_clip(str(source), num_frames=wanted)
                return _Read(clip.frames, None, clip.times)
        return self._understand(self._read_maps(source, pick), name=name_of(source))

    def _read_maps(self, source: object, pick: Pick) -> NDArray[np.generic]:
        readers: dict[str, Reader] = {
            **dict.fromkeys(IMAGE_SUFFIXES, self._read_picture),
            **dict.fromkeys(ARRAY_SUFFIXES, partial(read_array, key="thermal")),
        }
        return read_stack(
            source,
            what="a thermal image",
            readers=readers,
            num_frames=self.encoder.frames_wanted(self.options.num_frames),
            color_bytes=True,
            pick=pick,
        )

    def _read_picture(self, path: Path) -> NDArray[np.generic] | Pages:
        if self.options.flir == "temperature":
            if is_flir(path):
                kelvin = read_flir(path)
                return kelvin - np.float32(ZERO_CELSIUS_K) if self.options.unit == "celsius" else kelvin
            refuse_dji(path)
        return read_pages(path)

    def _understand(self, maps: NDArray[np.generic], *, name: str) -> _Read:
        """Take `(T, H, W)` or 8-bit `(T, H, W, 3)`."""
        if maps.dtype == np.uint8:
            rgb = maps if maps.ndim == 4 else np.repeat(maps[..., None], 3, axis=-1)
            return _Read(torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2), None)
        if maps.ndim == 4:
            raise MediaError(
                f"{name} is a colour image of {maps.dtype} numbers. Colours are uint8, temperatures one number per "
                "pixel. Pass kelvin (H, W), or an 8-bit heatmap."
            )
        celsius = to_celsius(maps, self.options.counts_per_kelvin, unit=self.options.unit, name=name)
        self._doubt_window(celsius, whole=maps.dtype.kind in "ui", name=name)
        return _Read(torch.empty(0), celsius)

    def _doubt_window(self, celsius_THW: Tensor, *, whole: bool, name: str) -> None:
        """Note temperatures outside the window, as raw counts taken for kelvin give."""
        options = self.options
        below = float((celsius_THW < options.coldest_c).float().mean())
        above = float((celsius_THW > options.hottest_c).float().mean())
        if options.window != "fixed" or max(below, above) < NEARLY_ALL:
            return
        where = f"below coldest_c={options.coldest_c:g}" if below > above else f"above hottest_c={options.hottest_c:g}"
        counts = "counts_per_kelvin for other counts (raw ones are no temperatures), " if whole else ""
        doubt(
            "thermal: window",
            f"{name} has {100 * max(below, above):.0f} % of its pixels {where} °C, in the middle "
            f"{float(celsius_THW.median()):.0f} °C, and shows one colour. Temperatures are kelvin or "
            f"{options.counts_per_kelvin:g} counts per kelvin. Set {counts}coldest_c and hottest_c or "
            "window='per_clip' for such temperatures.",
        )
