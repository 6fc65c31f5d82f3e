"""Depth, flow and surface normals as colours, through the backbone's shared frozen vision encoder (as in CREMA)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crema_core.data.media import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    Reader,
    doubt,
    middle_indices,
    name_of,
    read_array,
    read_image,
    read_stack,
)
from crema_core.data.sampling import Pick, RememberedPick
from crema_core.data.sheet import frames_panel, line, scale_bar, sheet, stack
from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.video.seeing import encode_by_backbone, prepare_for_backbone, with_usual_frames
from crema_geometry.doubts import doubt_depth, doubt_normals
from crema_geometry.drawing import draw_wheel, flat_hint, measured_speed
from crema_geometry.exr import read_exr_depth, read_exr_normals
from crema_geometry.files import read_depth_image, read_flo, read_kitti_flow, read_pfm, read_pfm_flow
from crema_geometry.plugin import DEPTH, FLOW, NORMALS, DepthOptions, FlowOptions, NormalsOptions
from crema_geometry.render import (
    depth_window,
    known_depth,
    normals_ball,
    render_depth,
    render_flow,
    render_normals,
)


class DepthModality(Modality):
    """Distance maps. Whole numbers are counts (16-bit images: millimetres), floats are metres."""

    spec = DEPTH
    options: DepthOptions

    def __init__(self, options: DepthOptions, context: BuildContext) -> None:
        super().__init__(with_usual_frames(options, context), context)

    def prepare(self, source: object) -> Sample:
        """Read distances and colour them.

        Args:
            source: a file, a folder or list of files, or an array `(H, W)` or `(T, H, W)`.

        Returns:
            `frames` `(T, 3, S, S)` normalised, T is 1 for a single map.

        Raises:
            MediaError: when the source is absent, empty, damaged or of another type.
        """
        return _sample(self, render_depth(self._metres(source), self.options))

    def show(self, source: object) -> Tensor:
        """Return the coloured maps with what their colours stand for."""
        options, picked = self.options, RememberedPick(middle_indices)
        metres = self._metres(source, picked)
        known = known_depth(metres)
        near, far = depth_window(metres[known], options)
        frames = render_depth(metres, options)
        bar = scale_bar(options.colormap, f"{far:.2f} m", f"{near:.2f} m, {options.scale} scale")
        unknown = 100 * float((~known).float().mean())
        measured = "nothing is known"
        if bool(known.any()):
            measured = f"measured {float(metres[known].min()):.2f} to {float(metres[known].max()):.2f} m"
        panels = [_panel(frames, picked), bar, line(f"{measured}; black: unknown, {unknown:.1f} %")]
        if hint := flat_hint(metres[known], options):
            doubt("depth: flat", f"{name_of(source)} {hint}")
            panels.append(line("flat, nearly one colour: a narrower near_m to far_m or window='per_clip' shows more"))
        return stack(panels)

    def _metres(self, source: object, pick: Pick = middle_indices) -> Tensor:
        readers: dict[str, Reader] = {
            **dict.fromkeys(IMAGE_SUFFIXES, read_depth_image),
            **dict.fromkeys(ARRAY_SUFFIXES, partial(read_array, key="depth")),
            ".exr": read_exr_depth,
            ".pfm": read_pfm,
        }
        num_frames = self.options.num_frames
        maps = read_stack(source, what="a depth map", readers=readers, num_frames=num_frames, pick=pick)
        if maps.dtype == np.uint8:
            raise MediaError(
                "The depth map has 8-bit numbers. Depth is 16-bit counts or float metres; 8 bits hold no distances. "
                "Give the measured map, or give a finished picture to a modality that sees."
            )
        options = self.options
        if maps.dtype.kind == "f":
            metres = torch.from_numpy(maps.astype(np.float32)) * options.metres_per_unit
        else:
            metres = torch.from_numpy(maps.astype(np.float32)) / options.counts_per_metre
        if options.unknown_value is not None:
            metres[torch.from_numpy(maps == options.unknown_value)] = 0.0
        doubt_depth(maps, metres, options, name=name_of(source))
        return metres

    def encode(self, batch: Batch) -> Features:
        """Encode every map: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        return encode_by_backbone(batch, context=self.context)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a wall 4 m away with a box somewhere before it, `(3, 24, 32)` float metres."""
        metres = 4 + 0.1 * torch.rand(3, 24, 32, generator=generator)
        left = int(torch.randint(0, 22, (), generator=generator))
        metres[:, 8:16, left : left + 10] = 1.0 + float(torch.rand((), generator=generator))
        return metres


class FlowModality(Modality):
    """Optical flow, pixels per frame to the right and down."""

    spec = FLOW
    options: FlowOptions

    def __init__(self, options: FlowOptions, context: BuildContext) -> None:
        super().__init__(with_usual_frames(options, context), context)

    def prepare(self, source: object) -> Sample:
        """Read motion and colour it; arguments and errors as in `DepthModality.prepare`, arrays `(T, H, W, 2)`."""
        return _sample(self, render_flow(self._flow(source), self.options.max_px))

    def show(self, source: object) -> Tensor:
        """Return the coloured fields, the wheel of directions, the measured speed and the share that is unknown."""
        picked, limit = RememberedPick(middle_indices), self.options.max_px
        flow = self._flow(source, picked)
        measured = measured_speed(flow, limit)
        fastest = "the fastest pixel of the source" if limit is None else f"{limit:g} pixels per frame"
        if measured.hint:
            doubt("flow: window", f"{name_of(source)} {measured.hint}")
        return stack(
            [
                _panel(render_flow(flow, limit), picked),
                line(measured.text),
                draw_wheel(),
                line(
                    f"colour: where it moves to, as from the middle of the wheel; full colour: {fastest}; white: rest"
                ),
            ]
        )

    def _flow(self, source: object, pick: Pick = middle_indices) -> Tensor:
        readers: dict[str, Reader] = {
            **dict.fromkeys(ARRAY_SUFFIXES, partial(read_array, key="flow")),
            ".flo": read_flo,
            ".png": read_kitti_flow,
            ".pfm": read_pfm_flow,
        }
        num_frames = self.options.num_frames
        maps = read_stack(source, what="a flow field", readers=readers, num_frames=num_frames, channels=2, pick=pick)
        return torch.from_numpy(maps.astype(np.float32))

    def encode(self, batch: Batch) -> Features:
        """Encode every field: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        return encode_by_backbone(batch, context=self.context)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return smooth motion `(3, 24, 32, 2)` float pixels per frame."""
        coarse = 4 * torch.randn(3, 2, 3, 4, generator=generator)
        return torch.nn.functional.interpolate(coarse, size=(24, 32), mode="bilinear").permute(0, 2, 3, 1)


class NormalsModality(Modality):
    """Surface directions: right, up, towards the viewer."""

    spec = NORMALS
    options: NormalsOptions

    def __init__(self, options: NormalsOptions, context: BuildContext) -> None:
        super().__init__(with_usual_frames(options, context), context)

    def prepare(self, source: object) -> Sample:
        """Read directions and colour them; arguments and errors as in `DepthModality.prepare`, arrays `(T, H, W, 3)`.

        uint8 numbers are colours `(n + 1) / 2`.
        """
        return _sample(self, self._pictures(source))

    def show(self, source: object) -> Tensor:
        """Return the coloured maps beside a ball, whose every direction is known."""
        picked = RememberedPick(middle_indices)
        frames = self._pictures(source, picked)
        ball = sheet(normals_ball(), ["a ball, for comparison"])
        return stack(
            [
                _panel(frames, picked),
                ball,
                line("right red, up green, to the viewer blue; grey: unknown"),
            ]
        )

    def _pictures(self, source: object, pick: Pick = middle_indices) -> Tensor:
        readers: dict[str, Reader] = {
            **dict.fromkeys(IMAGE_SUFFIXES, read_image),
            **dict.fromkeys(ARRAY_SUFFIXES, partial(read_array, key="normals")),
            ".exr": read_exr_normals,
            ".pfm": read_pfm,
        }
        num_frames = self.options.num_frames
        maps = read_stack(source, what="a normal map", readers=readers, num_frames=num_frames, channels=3, pick=pick)
        doubt_normals(maps, name=name_of(source))
        return render_normals(_directions(maps))

    def encode(self, batch: Batch) -> Features:
        """Encode every map: `(B, T, 3, S, S)` -> `(B, T, N, D)`."""
        return encode_by_backbone(batch, context=self.context)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return random directions towards the viewer, `(3, 24, 32, 3)`."""
        return torch.randn(3, 24, 32, 3, generator=generator) * 0.3 + torch.tensor([0.0, 0.0, 1.0])


def _directions(maps: NDArray[np.generic]) -> Tensor:
    values = torch.from_numpy(maps.astype(np.float32))
    return values / 127.5 - 1 if maps.dtype == np.uint8 else values


def _panel(frames: Tensor, picked: RememberedPick) -> Tensor:
    """Return coloured maps, each with its number in the source."""
    return frames_panel(frames, picked.captions, has_times=False)


def _sample(modality: Modality, frames: Tensor) -> Sample:
    return prepare_for_backbone(frames, context=modality.context)
