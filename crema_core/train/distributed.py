"""Devices, number formats, processes and trackers, through accelerate (whose launcher is used in `launch`).

The model is not wrapped in DistributedDataParallel: which parameters train changes from sub-step to sub-step, and DDP
with toggled `requires_grad` leaves gradients unsynchronised. Instead the gradients of what was just updated, one
modality and the fusion, are added up over the processes as one flat buffer.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from crema_core.common.known import to_device
from crema_core.common.parent import end_with_parent
from crema_core.common.processes import ALONE, Processes
from crema_core.errors import OptionsError, TrainingError
from crema_core.model.precision import chosen_precision

_PATIENCE = timedelta(hours=12)  # one process may encode, evaluate or write much longer than the others


def join_processes() -> Processes:
    """Meet the other processes of the launch that this one was started by; without a launch it is alone.

    Launchers (`crema fit --processes`, `accelerate launch`, `torchrun`) say so in environment variables.

    Raises:
        TrainingError: when the launcher did not say enough.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count <= 1:
        return ALONE
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise TrainingError(
            f"WORLD_SIZE={count} says that this is one of {count} processes, but {', '.join(missing)} is not set. "
            "Launchers set all of these. Use crema fit --processes, accelerate launch or torchrun, or unset WORLD_SIZE."
        )
    if (
        "TORCHELASTIC_RUN_ID" in os.environ
    ):  # torchrun and accelerate launch; of other launchers nobody knows the parent
        end_with_parent()
    # Without an accelerator accelerate would take each process for the only one, unless told to use CPUs.
    PartialState(
        cpu=not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=_PATIENCE
    )
    return Processes(rank=dist.get_rank(), count=dist.get_world_size(), control=_control_group())


def own_device() -> torch.device:
    """Return this process's device in a launch of several."""
    return torch.device(PartialState().device)


def leave_processes() -> None:
    """Part from the other processes at the end of a program."""
    if dist.is_initialized():
        _control_group.cache_clear()
        PartialState().destroy_process_group()


@functools.cache
def _control_group() -> dist.ProcessGroup | None:
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=_PATIENCE)


class Distributed:
    """What the loop needs to know about where it runs.

    Args:
        precision: number format of forward passes; weights, gradients and optimizer state stay as they are.
        trackers: accelerate's trackers beside `metrics.jsonl`.
        folder: where trackers write.

    Raises:
        TrainingError: in an incomplete launch of several processes.
        OptionsError: for a tracker that is unknown or not installed.
    """

    def __init__(self, *, precision: Literal["fp32", "bf16"], trackers: tuple[str, ...] = (), folder: Path) -> None:
        self.processes = join_processes()  # those of the launch
        # accelerate keeps one state for the whole Python process and refuses another precision later; a notebook calls
        # fit() more than once. The process group lives elsewhere (PartialState) and stays.
        AcceleratorState._reset_state()
        try:
            self.accelerator = Accelerator(
                mixed_precision="no" if precision == "fp32" else precision,
                log_with=list(trackers) or None,
                project_dir=folder,
            )
        except ValueError as error:
            raise OptionsError(
                f"accelerate refuses precision='{precision}' with trackers={list(trackers)}: {error}. Accepted are "
                "what this device computes in and the trackers that are installed. Change these settings."
            ) from error
        unknown = sorted(set(trackers) - {str(getattr(own, "value", own)) for own in self.accelerator.log_with})
        if unknown:
            raise OptionsError(
                f"The tracker '{unknown[0]}' is not installed. metrics.jsonl is always written; others need their "
                f"package. Install it (pip install {unknown[0]}), or leave it out of trackers."
            )
        self.device = torch.device(self.accelerator.device)  # where the model is put
        assert self.accelerator.num_processes == self.processes.count, "accelerate counts other processes"

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Compute what is inside in the chosen number format."""
        with chosen_precision(), self.accelerator.autocast():
            yield

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], losses: Sequence[Tensor]) -> Tensor:
        """Add up gradients and loss over all processes, in one flat buffer; alone this process adds up its losses.

        A parameter gets a gradient in all processes when it has one in any; one that has none anywhere keeps none, so
        that the optimizer leaves it alone. For which these are several processes read the device.

        Args:
            parameters: the same ones in all processes.
            losses: scalars in float64 whose sum is this process's part of the loss; none where it has no samples.

        Returns:
            The loss of all processes together, a scalar on the device.
        """
        loss = torch.zeros((), dtype=torch.float64, device=losses[0].device if losses else self.device)
        for part in losses:
            loss = loss + part
        if self.processes.count == 1:
            return loss
        gradients = [torch.zeros_like(own) if own.grad is None else own.grad for own in parameters]
        first = gradients[0]
        notes = to_device(torch.tensor([own.grad is not None for own in parameters], dtype=first.dtype), first.device)
        buffer = torch.cat([*(own.flatten() for own in gradients), notes, loss.to(first)[None]])
        self.processes.add_up(buffer)
        *sums, found, total = buffer.split([*(own.numel() for own in parameters), len(parameters), 1])
        for own, gradient, count in zip(parameters, sums, found.tolist(), strict=True):
            own.grad = gradient.view_as(own) if count else None
        of_all: Tensor = total.squeeze(0)
        return of_all

    @torch.no_grad()
    def start_equal(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all processes the main one's values, whatever they started from."""
        for own in parameters:
            self.processes.copy_from_main(own.detach())

    def stop_trackers(self) -> None:
        """Close the trackers' run; accelerate's `end_training` would part the processes as well."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
