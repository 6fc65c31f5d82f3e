"""From counts and kelvin to a heatmap."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crema_core.data.media import colorize
from crema_core.errors import MediaError
from crema_thermal.plugin import ThermalOptions

ZERO_CELSIUS_K = 273.15
FLAT = 0.1
"""Temperatures that differ by less than this share of the window have nearly one colour."""


def to_celsius(
    values: NDArray[np.generic], counts_per_kelvin: float, *, unit: str = "kelvin", name: str = "The array"
) -> Tensor:
    """Turn readings into degrees Celsius.

    Args:
        values: whole numbers are counts, floats are in `unit`; any shape.
        counts_per_kelvin: counts of one kelvin.
        unit: "kelvin" or "celsius", of floats.
        name: of the source, for messages.

    Raises:
        MediaError: when the median is below 150 K or above 2000 K, or a value is not finite: another unit or scale.
    """
    scale = counts_per_kelvin if values.dtype.kind in "ui" else 1.0
    kelvin = torch.from_numpy(values.astype(np.float32)) / scale
    if unit == "celsius" and values.dtype.kind == "f":
        kelvin = kelvin + ZERO_CELSIUS_K
    middle = float(kelvin.median())
    if not 150 <= middle <= 2000 or not bool(torch.isfinite(kelvin).all()):
        raise MediaError(
            f"{name} has a median of {middle:g} K. Accepted are finite temperatures around 150 to 2000 K, as floats or "
            f"as {counts_per_kelvin:g} counts per kelvin. Set the option unit=celsius for floats in Celsius, or "
            "counts_per_kelvin for other counts."
        )
    return kelvin - ZERO_CELSIUS_K


def heatmap(celsius_THW: Tensor, options: ThermalOptions) -> Tensor:
    """Colour temperatures.

    Args:
        celsius_THW: `(T, H, W)` degrees Celsius.
        options: the window and colours.

    Returns:
        `(T, 3, H, W)` float in 0..1; one window for all frames, so a frame never changes another's colours.
    """
    low, high = window_of(celsius_THW, options)
    return colorize((celsius_THW - low) / max(high - low, 1e-6), options.colormap)


def window_of(celsius_THW: Tensor, options: ThermalOptions) -> tuple[float, float]:
    """Return the degrees Celsius shown darkest and brightest: those of the options, or of this source."""
    if options.window == "fixed":
        return options.coldest_c, options.hottest_c
    low, high = np.percentile(celsius_THW.numpy(), (1, 99))
    return float(low), float(high)


def flat_hint(celsius_THW: Tensor, options: ThermalOptions) -> str:
    """Return what is said of temperatures that have nearly one colour, to follow the source's name; else nothing.

    The 1st to 99th percentile counts, so that a single dead pixel does not.
    """
    low, high = (float(end) for end in np.percentile(celsius_THW.numpy(), (1, 99)))
    wide = options.hottest_c - options.coldest_c
    if options.window != "fixed" or high - low >= FLAT * wide:
        return ""
    coldest, hottest = _round_window(low, high)
    return (
        f"has temperatures of {low:.1f} to {high:.1f} °C, {high - low:.1f} of the {wide:g} °C that the colours "
        f"cover (coldest_c={options.coldest_c:g} to hottest_c={options.hottest_c:g}), so its picture is nearly one "
        f"colour. Such differences are seen in a narrower window. Set coldest_c={coldest:g} and "
        f"hottest_c={hottest:g} for the whole data set, or window='per_clip'."
    )


def _round_window(low_c: float, high_c: float) -> tuple[float, float]:
    """Return whole degrees around two temperatures, at least two apart."""
    return float(math.floor(low_c)), float(max(math.ceil(high_c), math.floor(low_c) + 2))
