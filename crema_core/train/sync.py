"""Devices, number formats, processes and trackers, through accelerate; the only module that talks to it.

The model is not wrapped in DistributedDataParallel: which parameters train changes from sub-step to sub-step, and DDP
with toggled `requires_grad` leaves gradients unsynchronised. `reduce_gradients` is where several processes will meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from crema_core.errors import OptionsError, TrainingError


class Sync:
    """What the loop needs to know about where it runs.

    Args:
        precision: number format of forward passes; weights, gradients and optimizer state stay as they are.
        trackers: accelerate's trackers beside `metrics.jsonl`.
        folder: where trackers write.

    Raises:
        TrainingError: in a launch of several processes.
        OptionsError: for a tracker that is unknown or not installed.
    """

    def __init__(self, *, precision: Literal["fp32", "bf16"], trackers: tuple[str, ...] = (), folder: Path) -> None:
        # accelerate keeps one state for the whole Python process and refuses another precision later; a notebook calls
        # fit() more than once. The process group lives elsewhere (PartialState) and stays.
        AcceleratorState._reset_state()
        try:
            self._accelerator = Accelerator(
                mixed_precision="no" if precision == "fp32" else precision,
                log_with=list(trackers) or None,
                project_dir=folder,
            )
        except ValueError as error:
            raise OptionsError(
                f"accelerate refuses precision='{precision}' with trackers={list(trackers)}: {error}. Accepted are "
                "what this device computes in and the trackers that are installed. Change these settings."
            ) from error
        unknown = sorted(set(trackers) - {str(getattr(own, "value", own)) for own in self._accelerator.log_with})
        if unknown:
            raise OptionsError(
                f"The tracker '{unknown[0]}' is not installed. metrics.jsonl is always written; others need their "
                f"package. Install it (pip install {unknown[0]}), or leave it out of trackers."
            )
        if self._accelerator.num_processes > 1:
            raise TrainingError(
                f"Training was launched in {self._accelerator.num_processes} processes. This version trains in one. "
                "Start it with python, not with a launcher."
            )

    @property
    def device(self) -> torch.device:
        """Where the model is put."""
        return torch.device(self._accelerator.device)

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes files."""
        return bool(self._accelerator.is_main_process)

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Compute what is inside in the chosen number format."""
        with self._accelerator.autocast():
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` (scalar)."""
        self._accelerator.backward(loss)

    def reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make gradients equal in all processes; with one process they already are."""

    def start_trackers(self, settings: Mapping[str, object]) -> None:
        """Begin the trackers' run with its settings."""
        if self._accelerator.log_with:
            self._accelerator.init_trackers("crema", config=dict(settings))

    def track(self, values: Mapping[str, float], *, step: int) -> None:
        """Hand numbers to the trackers."""
        if self._accelerator.log_with:
            self._accelerator.log(dict(values), step=step)

    def stop_trackers(self) -> None:
        """Close the trackers' run."""
        if self._accelerator.log_with:
            self._accelerator.end_training()
