"""The checkpoints of one run as it goes: the main process writes them, all processes agree on what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crema_core.api.model import CremaModel
from crema_core.data.order import derive_seed
from crema_core.errors import TrainingError
from crema_core.train.run import BEST, LAST
from crema_core.train.schedule import Position
from crema_core.train.state import (
    Checkpoint,
    load_optimizer_state,
    load_random_state,
    optimizer_state,
    point,
    pointed,
    prune,
    random_state,
    read_checkpoint,
    write_checkpoint,
)
from crema_core.train.steps import Stepper


class Keeper:
    """Saves and restores what training changes.

    Args:
        run: the run directory.
        model: whose adapters and fusion are trained.
        stepper: holds the optimizer.
        seed: of the run, for dropout in processes that a checkpoint knows no random state of.
    """

    def __init__(self, run: Path, *, model: CremaModel, stepper: Stepper, seed: int) -> None:
        self.run, self.model, self.stepper, self.seed = run, model, stepper, seed
        self.sync, self.processes = stepper.sync, stepper.sync.processes
        self._saved: Position | None = None

    def seed_dropout(self, at: Position) -> None:
        """Start the random numbers of dropout: other ones in each process, the main one's as if it were alone."""
        rank = self.processes.rank
        torch.manual_seed(derive_seed("train", self.seed, *([rank, at.step] if rank else [])))

    def save(self, at: Position, progress: Mapping[str, Any], *, best: bool = False) -> Path | None:
        """Write a checkpoint, unless the last one is from the same position.

        The pointer to the best one is written first: a process killed between the two then goes on from the earlier
        checkpoint and comes by here again.

        Args:
            at: the position it is for.
            progress: JSON data to keep beside weights, moments and random states.
            best: make it the best one too.

        Returns:
            The folder, in the main process.

        Raises:
            TrainingError: when the processes do not hold the same weights.
        """
        if self._saved == at:
            return None
        self._refuse_unequal(at)
        states = self.processes.gather(random_state(self.sync.device))
        folder = None
        if self.processes.is_main:
            name = f"epoch-{at.epoch:03d}-step-{at.step:06d}"
            folder = write_checkpoint(
                self.run,
                name,
                Checkpoint(
                    adapters=self.model.adapter_state_dict(),
                    optimizer=optimizer_state(self.stepper.optimizer, self.stepper.parameters),
                    random={f"{rank}.{kind}": own for rank, part in enumerate(states) for kind, own in part.items()},
                    state={"position": list(at), "processes": self.processes.count, **progress},
                ),
            )
            if best:
                point(self.run, BEST, name)
            point(self.run, LAST, name)
            prune(self.run, keep=[folder, pointed(self.run, BEST)])
        self.processes.wait()
        self._saved = at
        return folder

    def load(self, folder: Path) -> dict[str, Any]:
        """Restore weights, moments and random states; return position, number of processes and progress."""
        checkpoint = read_checkpoint(folder)
        self.model.load_adapter_state_dict(checkpoint.adapters)
        load_optimizer_state(self.stepper.optimizer, self.stepper.parameters, checkpoint.optimizer)
        at = Position(*checkpoint.state["position"])
        self.seed_dropout(at)
        start = f"{self.processes.rank}."
        own = {key.removeprefix(start): state for key, state in checkpoint.random.items() if key.startswith(start)}
        load_random_state(self.sync.device, own)
        self._saved = at
        return checkpoint.state

    def _refuse_unequal(self, at: Position) -> None:
        sums = [parameter.detach().double().abs().sum() for parameter in self.stepper.parameters.values()]
        found = self.processes.gather(float(torch.stack(sums).sum()))
        if len(set(found)) > 1:
            raise TrainingError(
                f"After update {at.step} the processes hold different weights (sums {', '.join(map(repr, found))}). "
                "They must stay equal to the last bit. Go on from the last checkpoint with crema resume; if it happens "
                "again, look for hooks that change parameters in one process."
            )
