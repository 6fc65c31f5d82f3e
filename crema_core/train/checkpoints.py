"""Checkpoints: everything needed to continue as if nothing had happened, in files that run no code when read.

The main process writes them; all processes agree on what they hold.

```
checkpoints/epoch-003-step-000120/
  adapters.safetensors    adapters and fusion, keys as in `CremaModel.adapter_state_dict`
  optimizer.safetensors   moments, keys `<parameter>/<moment>`
  random.safetensors      states of the random generators, keys `<process>.<kind of device>`
  state.json              position, early exit, sums of the running epoch, what hooks keep, sha256 of the files above
  complete                written last
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.common.atomic import new_folder, require_complete, write_text
from crema_core.common.owner import require_owned
from crema_core.common.reading import ABSENT, inside, obstacle, read_object, read_text
from crema_core.common.tensors import checksum, read_tensors, require_finite, write_tensors
from crema_core.data.order import derive_seed
from crema_core.errors import CheckpointError, ReadError, TrainingError, first_line
from crema_core.train.optim import Position
from crema_core.train.run import BEST, CHECKPOINTS, CONFIG, ENVIRONMENT, LAST
from crema_core.train.steps import Stepper

STATE = "state.json"
_FILES = ("adapters", "optimizer", "random")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the contents of its files, see the top of this module."""

    adapters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    random: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(run: Path, name: str, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint completely or not at all; return its folder."""
    place = run / CHECKPOINTS / name
    remove_leftovers(run)
    with new_folder(place) as folder:
        for file in _FILES:
            write_tensors(folder / f"{file}.safetensors", getattr(checkpoint, file))
        sums = {file: checksum(folder / f"{file}.safetensors") for file in _FILES}
        (folder / STATE).write_text(json.dumps(checkpoint.state | {"sha256": sums}, indent=2) + "\n", encoding="utf-8")
    return place


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: when it was not written completely, a file is damaged, or a number is not finite.
    """
    require_complete(folder, what="checkpoint")
    try:
        state = read_object(folder / STATE)
        if "position" in state:
            Position(*state["position"])
        sums = {file: str(state["sha256"][file]) for file in _FILES}
    except (ReadError, KeyError, TypeError) as error:
        reason = first_line(error) if isinstance(error, ReadError) else "it states no place in the run or no checksums"
        raise CheckpointError(
            f"'{folder / STATE}' cannot be read: {reason}. It must be the file that training wrote. Copy the run "
            "again, or start a new one. Nothing was changed."
        ) from error
    tensors = {file: read_tensors(folder / f"{file}.safetensors", sha256=sums[file]) for file in _FILES}
    require_finite(tensors["adapters"] | tensors["optimizer"], place=folder)
    return Checkpoint(**tensors, state=state)


def point(run: Path, pointer: str, name: str) -> None:
    """Make `last` or `best` name a checkpoint."""
    write_text(run / pointer, name + "\n")


def pointed(run: Path, pointer: str) -> Path | None:
    """Return the checkpoint folder that `last` or `best` names, or None when there is none yet."""
    file = run / pointer
    if obstacle(file) == ABSENT:
        return None
    try:
        name = read_text(file).strip()
    except ReadError as error:
        raise CheckpointError(
            f"'{file}' cannot be read: {first_line(error)}. It names a checkpoint of this run. Write the name of a "
            f"folder of {run / CHECKPOINTS} into it. Nothing was changed."
        ) from error
    return inside(run / CHECKPOINTS, name, what=f"its checkpoint '{pointer}'")


def require_best(run: Path, name: str | None) -> None:
    """Let `best` name the checkpoint that was the best one when the last one was written, which may be None.

    Raises:
        CheckpointError: when that one is gone or damaged.
    """
    if name is None:  # earlier checkpoints do not state it
        return
    place = inside(run / CHECKPOINTS, name, what="its best checkpoint")
    read_checkpoint(place)
    if obstacle(run / BEST) == ABSENT or pointed(run, BEST) != place:
        point(run, BEST, name)


def prune(run: Path, keep: Collection[Path | None]) -> None:
    """Delete checkpoints that nothing points to."""
    for folder in (run / CHECKPOINTS).iterdir():
        if folder not in keep and not folder.name.startswith("."):
            shutil.rmtree(folder)


def remove_leftovers(run: Path) -> None:
    """Delete what an interrupted save left behind."""
    for folder in (run / CHECKPOINTS).glob(".*"):
        shutil.rmtree(folder)
    for name in (LAST, BEST, CONFIG, ENVIRONMENT):
        for file in run.glob(f".{name}.*"):
            file.unlink()


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimizer's moments by name; parameters never updated have none."""
    return {
        f"{name}/{moment}": value
        for name, parameter in parameters.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Take over what `optimizer_state` returned."""
    for key, value in state.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        # AdamW counts steps on the CPU; its moments live with the parameter.
        device = value.device if value.dim() == 0 else parameter.device
        optimizer.state[parameter][moment] = value.to(device, copy=True)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's global generators, which LoRA dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def load_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Take over what `random_state` returned; a state of another kind of device is left out."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


class Checkpointer:
    """Saves and restores what training changes.

    Args:
        run: the run directory.
        stepper: holds model, optimizer and settings.
    """

    def __init__(self, run: Path, stepper: Stepper) -> None:
        self.run, self.stepper, self.model = run, stepper, stepper.model
        self.distributed, self.processes = stepper.distributed, stepper.distributed.processes
        self._saved: Position | None = None

    def seed_dropout(self, at: Position) -> None:
        """Start the random numbers of dropout: other ones in each process, the main one's as if it were alone."""
        rank, seed = self.processes.rank, self.stepper.settings.seed
        torch.manual_seed(derive_seed("train", seed, *([rank, at.step] if rank else [])))

    def save(self, at: Position, progress: Mapping[str, Any], *, best: bool = False) -> Path | None:
        """Write a checkpoint, unless the last one is from the same position.

        The pointer to the best one is written first: a process killed between the two then continues from the earlier
        checkpoint and comes by here again.

        Args:
            at: the position it is for.
            progress: JSON data to keep beside weights, moments and random states.
            best: make it the best one too.

        Returns:
            The folder, in the main process.

        Raises:
            TrainingError: when the processes do not hold the same weights, when a weight or moment is not finite, and
                when another launch has taken over the run; the checkpoints that are there stay.
        """
        if self._saved == at:
            return None
        self.processes.from_main(lambda: require_owned(self.run))
        self.stepper.require_finite(optimizer_state(self.stepper.optimizer, self.stepper.parameters))
        self._refuse_unequal(at)
        states = self.processes.gather(random_state(self.distributed.device))
        folder = None
        if self.processes.is_main:
            name = f"epoch-{at.epoch:03d}-step-{at.step:06d}"
            before = None if best else pointed(self.run, BEST)
            named = name if best else before and before.name
            checkpoint = Checkpoint(
                adapters=self.model.adapter_state_dict(),
                optimizer=optimizer_state(self.stepper.optimizer, self.stepper.parameters),
                random={f"{rank}.{kind}": own for rank, part in enumerate(states) for kind, own in part.items()},
                state={"position": list(at), "processes": self.processes.count, "best": named, **progress},
            )
            folder = write_checkpoint(self.run, name, checkpoint)
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
        self.processes.from_main(lambda: require_best(self.run, checkpoint.state.get("best")))
        self.model.load_adapter_state_dict(checkpoint.adapters)
        load_optimizer_state(self.stepper.optimizer, self.stepper.parameters, checkpoint.optimizer)
        at = Position(*checkpoint.state["position"])
        self.seed_dropout(at)
        start = f"{self.processes.rank}."
        own = {key.removeprefix(start): state for key, state in checkpoint.random.items() if key.startswith(start)}
        load_random_state(self.distributed.device, own)
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
