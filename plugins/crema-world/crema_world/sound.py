"""The microphone: two different sounds, one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crema_world.scene import Scene

SAMPLE_RATE_HZ = 16_000
DURATION_S = 2.0

_SECONDS = np.arange(int(0.85 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def sound_track(scene: Scene) -> NDArray[np.int16]:
    """Record the clip: the first sound in the first second, the second one in the other.

    Returns:
        `(32000,)` int16 samples, 16 kHz, mono.
    """
    generator = np.random.default_rng([scene.noise_seed, 4])
    track = generator.normal(0, 0.002, int(DURATION_S * SAMPLE_RATE_HZ))
    for second, name in enumerate(scene.sounds):
        start = int((second + generator.uniform(0.02, 0.12)) * SAMPLE_RATE_HZ)
        track[start : start + len(_SECONDS)] += generator.uniform(0.25, 0.5) * play(name, generator)
    return np.asarray((np.clip(track, -1, 1) * 32767).round(), dtype=np.int16)


def play(name: str, generator: np.random.Generator) -> NDArray[np.float64]:
    """Make 0.85 s of a sound.

    Args:
        name: one of `SOUNDS`; bell: decaying inharmonic partials from 0.9 kHz up; drum: three beats below 200 Hz;
            whistle: one trembling tone near 3 kHz; buzz: a harsh harmonic tone near 130 Hz.

    Returns:
        `(13600,)` samples in -1..1.
    """
    pitch = generator.uniform(0.93, 1.07)
    if name == "bell":
        partials = [np.sin(2 * np.pi * 900 * pitch * ratio * _SECONDS) for ratio in (1, 1.5, 2.0, 2.76, 5.4)]
        sound = np.exp(-3 * _SECONDS) * np.mean(partials, axis=0) * 2
    elif name == "drum":
        beat = _SECONDS % 0.28
        noise = generator.normal(0, 0.15, len(_SECONDS)) * np.exp(-60 * beat)
        sound = np.exp(-14 * beat) * np.sin(2 * np.pi * 95 * pitch * beat * (1 + np.exp(-30 * beat))) + noise
    elif name == "whistle":
        sound = 0.8 * np.sin(2 * np.pi * 3000 * pitch * _SECONDS + 5 * np.sin(2 * np.pi * 6 * _SECONDS))
    else:
        saw = (130 * pitch * _SECONDS) % 1 - 0.5
        sound = 1.2 * saw * (0.7 + 0.3 * np.sign(np.sin(2 * np.pi * 25 * _SECONDS)))
    fade = np.minimum(1, np.minimum(_SECONDS, _SECONDS[::-1]) / 0.005)
    return np.asarray(np.clip(sound * fade, -1, 1), dtype=np.float64)
