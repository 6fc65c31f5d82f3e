"""What the pictures of `crema show` tell beside the maps: measured speeds, a wheel of directions, flat maps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from crema_geometry.plugin import DepthOptions
from crema_geometry.render import depth_position, flow_wheel

FLAT = 0.05
"""Distances whose colours differ by less than this share of the colour map look alike."""
SLOW, NEARLY_ALL = 0.01, 0.9
"""Motion below this share of full colour is nearly white; from this share of pixels on beyond it, one colour."""
WHEEL_PX, MARGIN_PX = 160, 48
INK, PAPER = (40, 40, 40), (255, 255, 255)


class Speed(NamedTuple):
    """What is said about the speeds of a source."""

    text: str  # for the picture
    hint: str  # what is said of a picture that shows next to nothing, to follow the source's name; else empty


def measured_speed(flow_THWC: Tensor, max_px: float | None) -> Speed:
    """Measure how fast the known pixels move.

    Args:
        flow_THWC: `(T, H, W, 2)` pixels per frame, right and down; not finite: unknown.
        max_px: speed in full colour; None: the fastest of the source.
    """
    known = torch.isfinite(flow_THWC).all(dim=-1)
    unknown = f"unknown (white, as rest): {100 * float((~known).float().mean()):.1f} %"
    if not bool(known.any()):
        return Speed(f"no motion is known; {unknown}", "")
    speeds = flow_THWC[known].norm(dim=-1).numpy()
    middle, most, fastest = (float(own) for own in np.percentile(speeds, (50, 95, 100)))
    beyond = 0.0 if max_px is None else float((speeds > max_px).mean())
    text = f"measured: middle {middle:.3g}, 95 % up to {most:.3g}, fastest {fastest:.3g} pixels per frame"
    text += f" ({100 * beyond:.0f} % beyond full colour)" if beyond else ""
    return Speed(f"{text}; {unknown}", "" if max_px is None else _speed_hint(beyond, max_px, most))


def _speed_hint(beyond: float, max_px: float, most: float) -> str:
    if 0 < most < SLOW * max_px:
        found = f"moves by up to {most:.2g} pixels per frame (95 % of its pixels), nearly white with max_px={max_px:g}"
    elif beyond >= NEARLY_ALL:
        found = f"moves by more than max_px={max_px:g} pixels per frame in {100 * beyond:.0f} % of its pixels"
    else:
        return ""
    usual = "Flow is counted in pixels of its own map from one frame to the next"
    return f"{found}. {usual}, not in shares of its width. Set max_px={_at_least(most):g} for such motion."


def _at_least(value: float) -> float:
    """Return a number with two digits that is not smaller."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-6) * unit:.2g}")


def draw_wheel() -> Tensor:
    """Return the colour of every direction and speed with the names of the directions, `(H, W, 3)` uint8."""
    height, width = WHEEL_PX + 2 * 20, WHEEL_PX + 2 * MARGIN_PX
    canvas = Image.new("RGB", (width, height), PAPER)
    pixels = (flow_wheel(WHEEL_PX)[0] * 255).round().byte().permute(1, 2, 0).contiguous()
    canvas.paste(Image.fromarray(pixels.numpy()), (MARGIN_PX, 20))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    draw.ellipse((MARGIN_PX, 20, MARGIN_PX + WHEEL_PX - 1, 20 + WHEEL_PX - 1), outline=(190, 190, 190))
    for text, x, y in (
        ("up", width / 2, 10),
        ("down", width / 2, height - 10),
        ("left", MARGIN_PX / 2, height / 2),
        ("right", width - MARGIN_PX / 2, height / 2),
    ):
        draw.text((x, y), text, fill=INK, font=font, anchor="mm")
    return torch.from_numpy(np.array(canvas))


def flat_hint(known_K: Tensor, options: DepthOptions) -> str:
    """Return what is said of distances that have nearly one colour, to follow the source's name; else nothing.

    Args:
        known_K: `(K,)` metres.
        options: window and scale.
    """
    if options.window != "fixed" or len(known_K) == 0:
        return ""
    low, high = (float(end) for end in np.percentile(known_K.numpy(), (1, 99)))
    near, far = depth_position(torch.tensor([low, high]), options.near_m, options.far_m, options.scale).tolist()
    if near - far >= FLAT:
        return ""
    unit = 10 ** math.floor(math.log10(max(high - low, 1e-3)))
    nearest, farthest = math.floor(low / unit) * unit or unit / 2, (math.ceil(high / unit) + 1) * unit
    return (
        f"has distances of {low:.3g} to {high:.3g} m, which near_m={options.near_m:g} to far_m={options.far_m:g} show "
        "in nearly one colour. Such differences are seen in a narrower window. Set "
        f"near_m={nearest:.3g} and far_m={farthest:.3g} for the whole data set, or window='per_clip'."
    )
