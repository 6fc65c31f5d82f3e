"""The events modality: x, y, t, polarity -> pictures of counts per bin of time -> a small trained network.

Shapes: B samples, T bins, 2 polarities, S = SIDE cells a side, N tokens of a bin, D = FEATURE_DIM.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crema_core.data.media import read_array, wrong_source
from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_events.plugin import FEATURE_DIM, EventsOptions

SIDE, SENSOR = 16, 128
MICROSECONDS = 1e6


class EventsModality(Modality):
    """Streams of events `(events, 4)`: a path of an array, an array, or a tensor."""

    options: EventsOptions

    def __init__(self, options: EventsOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.net = nn.Sequential(nn.Conv2d(2, FEATURE_DIM, kernel_size=8, stride=8), nn.GELU())

    def prepare(self, source: object) -> Sample:
        """Count the events of every cell: `counts` `(T, 2, S, S)`, with the time of every bin."""
        if isinstance(source, str | Path):
            source = read_array(source, key="events")
        if not isinstance(source, np.ndarray | Tensor):
            raise wrong_source(source, what="an event stream", accepted="a path or an array", advice="Pass one.")
        events = torch.as_tensor(source).double()
        if events.dim() != 2 or events.shape[1] != 4 or not len(events):
            raise MediaError(f"The stream has shape {tuple(events.shape)}. It is (events, 4). Save it with numpy.save.")
        x, y, microseconds, polarity = events.T
        inside = ((x >= 0) & (x < SENSOR) & (y >= 0) & (y < SENSOR)).all()
        if not bool(inside & ((polarity == 0) | (polarity == 1)).all() & (microseconds.diff() >= 0).all()):
            raise MediaError(
                f"The stream has events outside of {SENSOR} x {SENSOR} pixels, without order, or with a polarity that "
                "is not 0 or 1. Save columns x, y, microseconds, polarity."
            )
        seconds = (microseconds - microseconds[0]) / MICROSECONDS
        count = min(int(seconds[-1] / self.options.bin_s) + 1, self.options.max_bins)
        bins = (seconds / self.options.bin_s).long()
        kept = bins < count
        cell = SENSOR // SIDE
        counts = torch.zeros(count, 2, SIDE, SIDE)
        index = (bins[kept], polarity[kept].long(), (y[kept] // cell).long(), (x[kept] // cell).long())
        counts.index_put_(index, torch.ones(int(kept.sum())), accumulate=True)
        starts = torch.arange(count) * self.options.bin_s
        return Sample({"counts": counts.log1p()}, torch.stack((starts, starts + self.options.bin_s), dim=1))

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, N, D)`."""
        counts = batch["counts"]
        tokens = self.net(counts.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B * T, N, D)
        return Features(tokens.unflatten(0, counts.shape[:2]), batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a synthetic stream of half a second, `(400, 4)`."""
        x, y, t = torch.rand(3, 400, generator=generator)
        polarity = torch.rand(400, generator=generator) < 0.5
        columns = (SENSOR * x).floor(), (SENSOR * y).floor(), (t.sort().values * MICROSECONDS / 2).floor(), polarity
        return torch.stack([column.double() for column in columns], dim=1)
