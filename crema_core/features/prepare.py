"""From raw sources to prepared batches, in this process; training reads through DataLoader workers instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from crema_core.model.network import CremaNetwork
from crema_core.tokens import SenseBatch


def prepare_batch(model: CremaNetwork, sources: Sequence[Mapping[str, Any]]) -> dict[str, SenseBatch]:
    """Read the sources of several samples into one batch per sense; senses nobody has are absent."""
    batches = {}
    for name in model.names:
        rows = [index for index, own in enumerate(sources) if own.get(name) is not None]
        if rows:
            modality = model.sense(name).modality
            samples = [modality.prepare(sources[row][name]) for row in rows]
            batches[name] = SenseBatch(modality.collate(samples), torch.tensor(rows))
    return batches
