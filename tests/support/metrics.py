"""What of a run's metrics is the same whenever the run is the same: everything but the clock's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crema_core.train.metrics import Value


def without_times(metrics: Iterable[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """Return the lines of a metrics file without speeds and seconds."""
    return [
        {key: value for key, value in line.items() if not key.startswith(("samples_per_s", "seconds/"))}
        for line in metrics
    ]
