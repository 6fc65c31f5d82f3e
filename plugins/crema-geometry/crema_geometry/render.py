"""From measurements to colours the frozen vision encoder can tell apart.

One window for all frames of a source (or for the whole data set): a frame never changes another frame's colours, unlike
`torchvision.utils.flow_to_image`, which normalises over whatever batch it is given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crema_core.data.media import colorize
from crema_geometry.plugin import DepthOptions


def render_depth(metres_THW: Tensor, options: DepthOptions) -> Tensor:
    """Colour distances, near at the upper end of the colour map.

    Args:
        metres_THW: `(T, H, W)`; 0, negative and not finite mean unknown.
        options: window, scale and colours.

    Returns:
        `(T, 3, H, W)` float in 0..1; unknown is black.
    """
    known = known_depth(metres_THW)
    near, far = depth_window(metres_THW[known], options)
    metres = torch.where(known, metres_THW, far)
    return colorize(depth_position(metres, near, far, options.scale), options.colormap) * known[:, None]


def depth_position(metres: Tensor, near_m: float, far_m: float, scale: str) -> Tensor:
    """Return where distances are in the colour map, 0 (far) to 1 (near), of the same shape."""
    metres = metres.clamp(near_m, far_m)
    if scale == "log":
        return (far_m / metres).log() / max(math.log(far_m / near_m), 1e-6)
    if scale == "inverse":
        return (1 / metres - 1 / far_m) / max(1 / near_m - 1 / far_m, 1e-9)
    return (far_m - metres) / max(far_m - near_m, 1e-6)


def known_depth(metres_THW: Tensor) -> Tensor:
    """Return a mask of pixels whose distance is known."""
    return torch.isfinite(metres_THW) & (metres_THW > 0)


def depth_window(known_K: Tensor, options: DepthOptions) -> tuple[float, float]:
    """Return the metres shown as nearest and farthest: those of the options, or of the known distances of a source."""
    if options.window == "fixed" or len(known_K) == 0:
        return options.near_m, options.far_m
    return _percentiles(known_K, 0.02, 0.98)


def render_flow(flow_THWC: Tensor, max_px: float | None) -> Tensor:
    """Colour motion: the hue is the direction, the saturation the speed, white is rest.

    Right is red, down yellow-green, left cyan, up violet (90 degrees of hue per quarter turn).

    Args:
        flow_THWC: `(T, H, W, 2)` pixels per frame, right and down; not finite means unknown.
        max_px: speed shown in full colour; None: the fastest pixel of all given frames.

    Returns:
        `(T, 3, H, W)` float in 0..1; unknown is white as rest.
    """
    flow = flow_THWC.nan_to_num(0, 0, 0)
    speed = flow.norm(dim=-1)
    fastest = max_px if max_px is not None else max(float(speed.max()), 1e-6)
    turns = torch.atan2(flow[..., 1], flow[..., 0]) / (2 * math.pi) % 1
    strength = (speed / fastest).clamp(0, 1).sqrt()  # the root keeps slow motion visible
    colors: Tensor = (1 - strength[:, None]) + strength[:, None] * _hue(turns)
    return colors


def render_normals(normals_THWC: Tensor) -> Tensor:
    """Colour directions as `(n + 1) / 2` after normalisation; a zero vector (unknown) is grey.

    Args:
        normals_THWC: `(T, H, W, 3)`.

    Returns:
        `(T, 3, H, W)` float in 0..1.
    """
    normals = normals_THWC.nan_to_num(0, 0, 0)
    length = normals.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 1e-6, normals / length.clamp(min=1e-6), torch.zeros_like(normals))
    return ((unit + 1) / 2).permute(0, 3, 1, 2).contiguous()


def flow_wheel(size: int = 160) -> Tensor:
    """Return the colour of every direction and speed, `(1, 3, size, size)`: rest in the middle, full colour outside."""
    axis = torch.linspace(-1, 1, size)
    field = torch.stack([axis.expand(size, -1), axis[:, None].expand(-1, size)], dim=-1)
    inside = field.norm(dim=-1) <= 1
    return torch.where(inside, render_flow(field[None], 1.0), torch.ones(()))


def normals_ball(size: int = 160) -> Tensor:
    """Return the colours of a ball, `(1, 3, size, size)`: left points left, top up, the middle to the viewer."""
    axis = torch.linspace(-1, 1, size)
    right, up = axis.expand(size, -1), -axis[:, None].expand(-1, size)
    towards = (1 - right**2 - up**2).clamp(min=0).sqrt()
    ball = torch.stack([right, up, towards], dim=-1) * (right**2 + up**2 <= 1)[..., None]
    return render_normals(ball[None])


def _hue(turns_THW: Tensor) -> Tensor:
    """Return the fully saturated colour of each hue in 0..1, `(T, 3, H, W)`."""
    offsets = turns_THW.new_tensor([0.0, 2 / 3, 1 / 3]).view(1, 3, 1, 1)
    distance = ((turns_THW[:, None] + offsets) % 1 * 6 - 3).abs()
    return (distance - 1).clamp(0, 1)


def _percentiles(values: Tensor, low: float, high: float) -> tuple[float, float]:
    ordered = values.flatten().sort().values
    last = len(ordered) - 1
    first, second = float(ordered[round(low * last)]), float(ordered[round(high * last)])
    return first, max(second, first * (1 + 1e-6))
