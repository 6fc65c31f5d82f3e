"""What a number of a sound is: full scale is 1, unless an option says otherwise."""

from __future__ import annotations

from torch import Tensor

from crema_audio.sound import Waveform
from crema_core.data.media import doubt

LOUDEST = 16.0
"""Samples beyond are not in -1..1: mastered music overshoots full scale by a few decibels."""


def leveled(sound: Waveform, *, full_scale: float, name: str) -> Waveform:
    """Return a sound whose full scale is 1; samples far beyond it are noted.

    Args:
        sound: as read, whole numbers scaled by their type, floats as they are.
        full_scale: what the source's floats have for it; 1: nothing changes.
        name: of the source, to begin a sentence.
    """

    def part(low: int, high: int) -> Tensor:
        samples = sound.part(low, high)
        if full_scale != 1:
            samples = samples / full_scale
        peak = float(samples.abs().max()) if len(samples) else 0.0
        if peak > LOUDEST:
            doubt(
                "audio: scale",
                f"{name} has samples up to {peak:,.0f}. Full scale of floats is 1. Set full_scale=32768 if they were "
                "16-bit numbers, or store the sound as int16.",
            )
        return samples

    return sound._replace(part=part)
