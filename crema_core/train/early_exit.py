"""Which modalities are trained now, and when each has had enough: a state machine of plain numbers, without torch.

Adaptive early exit (CREMA section 3.3): a modality stops when its gradients do not shrink any more. At the end of an
epoch, with v the epoch's gradient norm of a modality and H its norms of earlier epochs, it exits when
v > tau * mean(H).

The paper tests every epoch with the mean over the epoch and all epochs before it as H; the released code starts at the
sixth epoch and, by an accident of its meters, sees the last update only. `start_epoch`, `value` and `reference`
express both. With all epochs as H the rule stops a modality that is only being discovered: its norms grow then, up to
eightfold on SenseWorld. By default H begins at the modality's highest norm: while norms grow nothing is tested, and
what is compared is the decline after the discovery. A discovery that takes long has norms that go up and down; what
tells it from convergence is the loss, which still falls (`docs/reproduction.md` has the measurements).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from crema_core.train.settings import TrainSettings

LOSS_EPOCHS = 3
"""Earlier epochs whose mean loss an epoch's is compared with."""


@dataclass(frozen=True)
class Exit:
    """Why a modality stopped."""

    modality: str  # its name
    epoch: int  # 0-based epoch at whose end it stopped; texts count from 1
    value: float  # the epoch's gradient norm
    mean: float  # the mean norm of the epochs it is compared with
    num_epochs: int  # how many those are; they end with the epoch before
    tau: float  # the factor

    def __str__(self) -> str:
        return (
            f"'{self.modality}' exits after epoch {self.epoch + 1}: gradient norm {self.value:.4g} > "
            f"{self.tau:g} x {self.mean:.4g}, the mean of the {self.num_epochs} epochs before."
        )


@dataclass
class EarlyExit:
    """Modalities under training and the record of their gradient norms."""

    order: tuple[str, ...]  # modalities trained, in the order of their sub-steps
    tau: float | None = None  # factor of the exit rule; None: nobody exits
    start_epoch: int = 1  # first epoch (from 0) whose end is tested; the first epoch has no past and is never tested
    value: Literal["mean", "last"] = "mean"  # an epoch's value, the mean of its updates' norms or the last one
    reference: Literal["peak", "all"] = "peak"  # H: epochs from the one with the highest value on, or all
    patience: int = 5  # least number of epochs from the peak on; only where H begins at the peak
    # nobody exits in an epoch whose loss is below that of the three before by more than this share; None: any may
    loss_drop: float | None = 0.1
    history: dict[str, list[float]] = field(default_factory=dict)  # values of the closed epochs, by modality
    losses: dict[str, list[float]] = field(default_factory=dict)  # mean losses of the closed epochs, by modality
    exits: dict[str, Exit] = field(default_factory=dict)  # modalities that exited, with the reason
    last_epoch: dict[str, float] = field(default_factory=dict)  # values of the epoch closed last, by modality
    thresholds: dict[str, float] = field(default_factory=dict)  # what they were compared with, where they were tested
    held: tuple[str, ...] = ()  # those above it that stay because their loss still falls
    _epoch_norms: dict[str, list[float]] = field(default_factory=dict)
    _epoch_losses: dict[str, list[float]] = field(default_factory=dict)

    @property
    def active(self) -> tuple[str, ...]:
        """The modalities that still train, in order."""
        return tuple(name for name in self.order if name not in self.exits)

    def record(self, modality: str, norm: float, loss: float) -> None:
        """Note the gradient norm of one update of a modality, and the loss before it."""
        self._epoch_norms.setdefault(modality, []).append(norm)
        self._epoch_losses.setdefault(modality, []).append(loss)

    def end_epoch(self, epoch: int) -> tuple[Exit, ...]:
        """Test the exit rule and close the epoch; a modality without an update in it is not tested.

        Returns:
            The modalities that exit now.
        """
        self.last_epoch = {name: self._epoch_value(name) for name in self.active if name in self._epoch_norms}
        self.thresholds, self.held = {}, ()
        for name in self.last_epoch:
            own = self._epoch_losses[name]
            self.losses.setdefault(name, []).append(sum(own) / len(own))
        tested = [self._test(name, epoch) for name in self.last_epoch]
        exits = tuple(found for found in tested if found is not None)
        for name, value in self.last_epoch.items():
            self.history.setdefault(name, []).append(value)
        self.exits |= {found.modality: found for found in exits}
        self._epoch_norms, self._epoch_losses = {}, {}
        return exits

    def _test(self, name: str, epoch: int) -> Exit | None:
        value, past = self.last_epoch[name], self._reference(name)
        if self.tau is None or epoch < self.start_epoch or not past:
            return None
        mean = sum(past) / len(past)
        self.thresholds[name] = self.tau * mean
        if value <= self.tau * mean:
            return None
        if self._still_learns(name):
            self.held = (*self.held, name)
            return None
        return Exit(name, epoch, value, mean, len(past), self.tau)

    def _still_learns(self, name: str) -> bool:
        """Return whether the loss of the last epoch is well below that of the epochs before it."""
        *past, loss = self.losses[name]
        recent = past[-LOSS_EPOCHS:]
        return self.loss_drop is not None and loss < (1 - self.loss_drop) * sum(recent) / len(recent)

    def _reference(self, name: str) -> list[float]:
        """Return the earlier epochs' values that the last one is compared with; none while it is still growing."""
        past = self.history.get(name, [])
        if self.reference == "all":
            return past
        highest = max([*past, self.last_epoch[name]])
        if highest not in past:
            return []
        since_peak = past[max(index for index, value in enumerate(past) if value == highest) :]
        return since_peak if len(since_peak) >= self.patience else []

    def _epoch_value(self, name: str) -> float:
        norms = self._epoch_norms[name]
        return norms[-1] if self.value == "last" else sum(norms) / len(norms)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs, as JSON data."""
        return {
            "history": {name: list(values) for name, values in self.history.items()},
            "losses": {name: list(values) for name, values in self.losses.items()},
            "exits": [asdict(found) for found in self.exits.values()],
            "epoch_norms": {name: list(values) for name, values in self._epoch_norms.items()},
            "epoch_losses": {name: list(values) for name, values in self._epoch_losses.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.exits = {entry["modality"]: Exit(**entry) for entry in state["exits"]}
        self._epoch_norms = {name: list(values) for name, values in state["epoch_norms"].items()}
        self.losses = {name: list(values) for name, values in state["losses"].items()}
        self._epoch_losses = {name: list(values) for name, values in state["epoch_losses"].items()}


def why_no_exit(settings: TrainSettings) -> str | None:
    """Return why no modality can exit in a run although its settings name a rule; None where one can, or none is named.

    Args:
        settings: of the run.
    """
    if settings.early_exit is None:
        return None
    first = exit_start_epoch(settings)
    if settings.early_exit_reference == "peak":
        first = max(first, settings.early_exit_patience)
    if first > settings.epochs - 2:  # an exit after the last epoch saves nothing
        return (
            f"early_exit={settings.early_exit:g} cannot shorten this run: the first epoch after which a modality can "
            f"exit is number {first + 1}, and the run has {settings.epochs}. Set epochs to {first + 2} or more, or "
            "lower early_exit_start_epoch or early_exit_patience."
        )
    if settings.early_exit_metric == "adapter" and settings.early_exit_reference == "all" and settings.early_exit >= 1:
        return (
            f"early_exit={settings.early_exit:g} on the whole adapter against all earlier epochs has never ended a "
            "converged modality in the runs of docs/reproduction.md: the first epochs' norms are many times those of "
            "later ones and stay in the mean. Leave early_exit_metric and early_exit_reference out for the rule that "
            "does."
        )
    return None


def exit_start_epoch(settings: TrainSettings) -> int:
    """Return the first epoch (from 0) that is tested: as the settings name it, or after a quarter of the epochs."""
    named = settings.early_exit_start_epoch
    return max(1, settings.epochs // 4) if named is None else named


def training_order(names: Sequence[str], chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Return the modalities to train in the model's order, which is the order of their sub-steps."""
    return tuple(name for name in names if chosen is None or name in chosen)
