"""What every encoder of sound offers, and the two ways of cutting a sound into its inputs.

Shape letters: B sounds, T windows, N tokens of a window, D width, S samples, F frames of 10 ms, M mel bands.
"""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crema_audio.fbank import (
    FRAME_LENGTH,
    FRAME_SHIFT,
    FRAMES_PER_S,
    SAMPLE_RATE_HZ,
    count_frames,
    normalized_fbank,
)
from crema_audio.plugin import PATCH, AudioOptions
from crema_audio.sound import Waveform
from crema_audio.windows import window_starts


class Windows(NamedTuple):
    """A sound cut for an encoder.

    Attributes:
        inputs: `(T, ...)`, what the encoder takes for each window.
        lengths: `(T,)` int64, how much of each window is real, in frames of 10 ms or in samples.
        spans_s: start and end of every window in seconds of the sound.
    """

    inputs: Tensor
    lengths: Tensor
    spans_s: list[tuple[float, float]]


class AudioEncoder(nn.Module, abc.ABC):
    """A frozen encoder of windows.

    Args:
        options: of the modality.
    """

    sample_rate_hz: int = SAMPLE_RATE_HZ
    """Rate at which it takes sound."""
    default_weights: str | None = None
    """Hub id taken where the user names none; None: weights must be named, or there are none."""

    def __init__(self, options: AudioOptions) -> None:
        super().__init__()
        self.options = options

    @property
    @abc.abstractmethod
    def feature_dim(self) -> int:
        """Width D of its tokens."""

    @abc.abstractmethod
    def cut(self, sound: Waveform) -> Windows:
        """Cut a waveform at `sample_rate_hz`, of which only the windows are read; runs in worker processes."""

    def spans(self, sound: Waveform) -> list[tuple[float, float]]:
        """Return the windows that `cut` makes, seconds of the sound; needs no weights and no front end."""
        return self.cut(sound).spans_s

    @abc.abstractmethod
    def forward(self, inputs_BT: Tensor, lengths_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode windows.

        Args:
            inputs_BT: `(B, T, ...)` from `cut`, padded.
            lengths_BT: `(B, T)`; 0 for a window that is padding.
            starts_BT: `(B, T)` seconds, where each window begins.

        Returns:
            `(B, T, N, D)` and a mask `(B, T, N)` of tokens that cover real sound.
        """

    def load(self) -> None:
        """Load weights, for an encoder that has some."""

    def load_shapes(self) -> None:
        """Build what `load` would load without weights, to count it."""


def cut_fbank(sound: Waveform, options: AudioOptions) -> Windows:
    """Cut the filter banks of a sound at 16 kHz: inputs `(T, F, 128)`, lengths in frames.

    F is a multiple of the patch; a sound shorter than a window is not padded further.
    """
    num_frames = count_frames(sound.num_samples)
    length = window_frames(options.window_s)
    stride = None if options.stride_s is None else max(round(options.stride_s * FRAMES_PER_S), 1)
    starts = window_starts(num_frames, length, options.num_windows, options.placement, stride=stride)
    kept = min(length, math.ceil(num_frames / PATCH) * PATCH)
    windows = [fbank_part(sound, start, min(start + length, num_frames)) for start in starts]
    padded = [nn.functional.pad(window, (0, 0, 0, kept - len(window))) for window in windows]
    spans = [
        (start / FRAMES_PER_S, (start + len(window)) / FRAMES_PER_S)
        for start, window in zip(starts, windows, strict=True)
    ]
    return Windows(torch.stack(padded), torch.tensor([len(window) for window in windows]), spans)


def fbank_part(sound: Waveform, first: int, last: int) -> Tensor:
    """Return frames `first` to `last` of the sound's filter banks, `(last - first, 128)`."""
    end = min((last - 1) * FRAME_SHIFT + FRAME_LENGTH, sound.num_samples)
    return normalized_fbank(sound.part(first * FRAME_SHIFT, end))


def cut_samples(
    sound: Waveform, options: AudioOptions, *, rate_hz: int
) -> tuple[list[Tensor], Tensor, list[tuple[float, float]]]:
    """Cut a waveform; returns the windows `(S,)` of at most `window_s` each, their lengths in samples, and spans."""
    length = max(round(options.window_s * rate_hz), 1)
    stride = None if options.stride_s is None else max(round(options.stride_s * rate_hz), 1)
    starts = window_starts(sound.num_samples, length, options.num_windows, options.placement, stride=stride)
    windows = [sound.part(start, min(start + length, sound.num_samples)) for start in starts]
    spans = [(start / rate_hz, (start + len(window)) / rate_hz) for start, window in zip(starts, windows, strict=True)]
    return windows, torch.tensor([len(window) for window in windows]), spans


def window_frames(window_s: float) -> int:
    """Return the length of a full window in frames of 10 ms, a multiple of the patch.

    >>> window_frames(5.12)
    512
    """
    return max(round(window_s * FRAMES_PER_S) // PATCH, 1) * PATCH
