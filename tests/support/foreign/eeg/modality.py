"""The eeg modality: EDF files -> windows -> logarithmic power per band.

Shapes: B samples, T windows, C channels, P points of a window, D = NUM_BANDS.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crema_core.data.media import check_file, wrong_source
from crema_core.errors import MediaError
from crema_core.modality import Batch, Features, Modality, Sample
from crema_eeg.plugin import NUM_BANDS, EegOptions

POINTS = 64
FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes per channel of each field of an EDF header: label, transducer, unit, four limits, filter, points, reserved."""


class EegModality(Modality):
    """Recordings in microvolts: a path of an EDF file, or a tensor `(C, points)` at `POINTS` per window."""

    options: EegOptions

    def prepare(self, source: object) -> Sample:
        """Read a recording into `windows` `(T, C, P)`, with the time of every window."""
        if isinstance(source, str | Path):
            signal, rate_hz = read_edf(check_file(source, what="an EEG recording", suffixes=(".edf",)))
        elif isinstance(source, Tensor) and source.dim() == 2:
            signal, rate_hz = source.float(), POINTS / self.options.window_s
        else:
            raise wrong_source(
                source, what="an EEG recording", accepted="a path or a tensor (C, points)", advice="Pass one."
            )
        num_points = max(round(self.options.window_s * rate_hz), 2)
        count = min(signal.shape[1] // num_points, self.options.max_windows)
        if count < 1:
            raise MediaError(
                f"The recording lasts {signal.shape[1] / rate_hz:.2f} s. It needs {self.options.window_s} s at least. "
                "Record longer, or make window_s smaller."
            )
        cut = signal[: self.options.num_channels, : count * num_points].unflatten(1, (count, num_points))
        windows = torch.nn.functional.interpolate(cut, size=POINTS, mode="linear").transpose(0, 1)  # (T, C, P)
        starts = torch.arange(count) * self.options.window_s
        return Sample({"windows": windows.contiguous()}, torch.stack((starts, starts + self.options.window_s), dim=1))

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, C, D)`; channels a sample does not have are masked."""
        windows = batch["windows"]
        # Waves and not torch.fft, which refuses the batch of no sample.
        angle = 2 * torch.pi * torch.arange(POINTS, device=windows.device) / POINTS
        phase = angle[:, None] * torch.arange(1, 2 * NUM_BANDS + 1, device=windows.device)  # (P, 2 D)
        power = (windows.float() @ phase.sin()).square() + (windows.float() @ phase.cos()).square()  # (B, T, C, 2 D)
        bands = power.unflatten(-1, (NUM_BANDS, 2)).mean(-1)
        channels = torch.arange(windows.shape[2], device=windows.device) < batch.sizes["windows"][:, 1, None, None]
        return Features(torch.log1p(bands) / 5, channels & batch.mask[..., None], batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a synthetic recording of three channels with one rhythm, and noise, `(3, 5 windows)`."""
        cycles = 1 + 15 * torch.rand(1, generator=generator)  # in a window
        rhythm = 30 * torch.sin(2 * torch.pi * cycles * torch.arange(5 * POINTS) / POINTS)
        return rhythm + 5 * torch.randn(3, 5 * POINTS, generator=generator)


def read_edf(path: Path) -> tuple[Tensor, float]:
    """Read an EDF file: microvolts `(C, points)` and the sampling rate."""
    content = path.read_bytes()
    try:
        num_records, seconds, count = int(content[236:244]), float(content[244:252]), int(content[252:256])
        at, columns = 256, []
        for width in FIELDS:
            columns.append([content[at + row * width : at + (row + 1) * width] for row in range(count)])
            at += count * width
        low, high, digital_low, digital_high = (np.array(columns[number], dtype=float) for number in (3, 4, 5, 6))
        (points,) = {int(text) for text in columns[8]}
        values = np.frombuffer(content, dtype="<i2", offset=at).reshape(num_records, count, points)
    except ValueError as error:
        raise MediaError(f"'{path}' is no EDF file with channels of one rate ({error}). Export it as EDF.") from error
    if not count or not points or seconds <= 0 or not values.size:
        raise MediaError(f"'{path}' holds no record. A recording has some. Export it again.")
    scale = (high - low) / (digital_high - digital_low)
    signal = values.transpose(1, 0, 2).reshape(count, -1) * scale[:, None] + (low - digital_low * scale)[:, None]
    if not np.isfinite(signal).all():
        raise MediaError(f"'{path}' has limits that are no range. Export it again.")
    return torch.from_numpy(signal).float(), points / seconds
