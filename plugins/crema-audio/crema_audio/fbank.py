"""Kaldi-style log-mel filter banks, 128 bands, 25 ms every 10 ms at 16 kHz: what audio encoders such as BEATs take.

torchaudio computes them where it imports. Its wheels need a torch built for the same CUDA version, so an equal function
of torch alone takes over elsewhere, with one notice.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from crema_core.errors import first_line

SAMPLE_RATE_HZ = 16_000
FRAME_LENGTH, FRAME_SHIFT = 400, 160  # samples: 25 ms every 10 ms
FRAMES_PER_S = SAMPLE_RATE_HZ // FRAME_SHIFT
NUM_MELS = 128
FFT_SIZE = 512
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
# Mean and half-scale of AudioSet's filter banks, as the released CREMA and BEATs code normalise.
FBANK_MEAN, FBANK_STD = 15.41663, 6.55582


def count_frames(num_samples: int) -> int:
    """Return how many frames a waveform at 16 kHz has, at least one.

    >>> count_frames(16_000)
    98
    """
    return max((num_samples - FRAME_LENGTH) // FRAME_SHIFT, 0) + 1


def normalized_fbank(samples: Tensor) -> Tensor:
    """Return `(F, 128)` normalised log-mel energies of a waveform, one row per 10 ms.

    Args:
        samples: `(S,)` mono at 16 kHz, full scale -1..1; shorter than 25 ms is padded with silence.
    """
    padded = torch.nn.functional.pad(samples, (0, max(FRAME_LENGTH - len(samples), 0)))
    return (_fbank_function()(padded * 2**15) - FBANK_MEAN) / (2 * FBANK_STD)


@functools.cache
def _fbank_function() -> Callable[[Tensor], Tensor]:
    try:
        from torchaudio.compliance.kaldi import fbank  # type: ignore[import-untyped, unused-ignore]
    except (ImportError, OSError, RuntimeError) as error:  # missing, CPU-only torch, or another CUDA version
        warnings.warn(
            f"torchaudio cannot be imported ({first_line(error)}). crema-audio computes the same filter banks with "
            "torch alone; nothing needs to be done. To use torchaudio, install the version made for this torch.",
            stacklevel=2,
        )
        return kaldi_fbank
    return lambda scaled: fbank(scaled[None], num_mel_bins=NUM_MELS, sample_frequency=SAMPLE_RATE_HZ)


def kaldi_fbank(scaled: Tensor) -> Tensor:
    """Compute what `torchaudio.compliance.kaldi.fbank(scaled[None], num_mel_bins=128)` computes.

    Args:
        scaled: `(S,)` at least 400 samples at 16 kHz, full scale -2^15..2^15.

    Returns:
        `(F, 128)` natural log of mel energies.
    """
    frames = scaled.unfold(0, FRAME_LENGTH, FRAME_SHIFT)  # (F, 400)
    frames = frames - frames.mean(dim=1, keepdim=True)
    previous = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    window = torch.hann_window(FRAME_LENGTH, periodic=False) ** 0.85
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * previous) * window, n=FFT_SIZE)
    energies: Tensor = spectrum.abs() ** 2 @ mel_filters().T
    return energies.clamp(min=torch.finfo(torch.float32).eps).log()


@functools.cache
def mel_filters() -> Tensor:
    """Return Kaldi's triangular filters `(128, 257)`: triangles in mel, from 20 Hz to 8 kHz."""
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (LOWEST_HZ, SAMPLE_RATE_HZ / 2))
    edges = low + (high - low) / (NUM_MELS + 1) * torch.arange(NUM_MELS + 2)
    hertz = torch.arange(FFT_SIZE // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SIZE)
    mels = 1127 * (1 + hertz / 700).log()
    rising = (mels - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - mels) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp(min=0)
    filters[:, -1] = 0  # Kaldi leaves out the Nyquist bin
    return filters
