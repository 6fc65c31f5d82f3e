"""Which modalities are trained now, and when each has had enough: a state machine of plain numbers, without torch.

Adaptive early exit (CREMA section 3.3): a modality stops when its gradients grow instead of shrinking. At the end of an
epoch, with v the epoch's gradient norm of a modality and H its values of all earlier epochs, it exits when
v > tau * mean(H). The paper tests every epoch with the mean over the epoch; the released code starts at the sixth
epoch and, by an accident of its meters, sees the last update only. `start_epoch` and `value` express both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Exit:
    """Why a modality stopped."""

    modality: str  # its name
    epoch: int  # 0-based epoch at whose end it stopped
    value: float  # the epoch's gradient norm
    mean: float  # the mean of the earlier epochs' norms
    tau: float  # the factor

    def __str__(self) -> str:
        return (
            f"'{self.modality}' exits after epoch {self.epoch}: gradient norm {self.value:.4g} > "
            f"{self.tau:g} x {self.mean:.4g}, the mean of the epochs before."
        )


@dataclass
class EarlyExit:
    """Modalities under training and the record of their gradient norms."""

    order: tuple[str, ...]  # modalities trained, in the order of their sub-steps
    tau: float | None = None  # factor of the exit rule; None: nobody exits
    start_epoch: int = 1  # first epoch (from 0) whose end is tested; the first epoch has no past and is never tested
    value: Literal["mean", "last"] = "mean"  # an epoch's value, the mean of its updates' norms or the last one
    history: dict[str, list[float]] = field(default_factory=dict)  # values of the closed epochs, by modality
    exits: dict[str, Exit] = field(default_factory=dict)  # modalities that exited, with the reason
    last_epoch: dict[str, float] = field(default_factory=dict)  # values of the epoch closed last, by modality
    _epoch_norms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def active(self) -> tuple[str, ...]:
        """The modalities that still train, in order."""
        return tuple(name for name in self.order if name not in self.exits)

    def record(self, modality: str, norm: float) -> None:
        """Note the gradient norm of one update of a modality."""
        self._epoch_norms.setdefault(modality, []).append(norm)

    def end_epoch(self, epoch: int) -> tuple[Exit, ...]:
        """Test the exit rule and close the epoch; a modality without an update in it is not tested.

        Returns:
            The modalities that exit now.
        """
        self.last_epoch = {name: self._epoch_value(name) for name in self.active if name in self._epoch_norms}
        tested = [self._test(name, epoch) for name in self.last_epoch]
        exits = tuple(found for found in tested if found is not None)
        for name, value in self.last_epoch.items():
            self.history.setdefault(name, []).append(value)
        self.exits |= {found.modality: found for found in exits}
        self._epoch_norms = {}
        return exits

    def _test(self, name: str, epoch: int) -> Exit | None:
        past = self.history.get(name, [])
        if self.tau is None or epoch < self.start_epoch or not past:
            return None
        value, mean = self.last_epoch[name], sum(past) / len(past)
        return Exit(name, epoch, value, mean, self.tau) if value > self.tau * mean else None

    def _epoch_value(self, name: str) -> float:
        norms = self._epoch_norms[name]
        return norms[-1] if self.value == "last" else sum(norms) / len(norms)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs, as JSON data."""
        return {
            "history": {name: list(values) for name, values in self.history.items()},
            "exits": [asdict(found) for found in self.exits.values()],
            "epoch_norms": {name: list(values) for name, values in self._epoch_norms.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.exits = {entry["modality"]: Exit(**entry) for entry in state["exits"]}
        self._epoch_norms = {name: list(values) for name, values in state["epoch_norms"].items()}


def training_order(names: Sequence[str], chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Return the modalities to train in the model's order, which is the order of their sub-steps."""
    return tuple(name for name in names if chosen is None or name in chosen)
