"""What hooks may change of a running training: scale the learning rate, stop the run, and remember something.

Every plugin has a `RunControl` of its own. What it asks for is taken over between two updates, by all processes at the
same place, written to the metrics with the plugin's name, and kept in checkpoints, so that a resumed run has the
numbers of an uninterrupted one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from crema_core.errors import HookError


class RunChange(NamedTuple):
    """Something a plugin asked for."""

    kind: Literal["lr_factor", "stop"]
    by: str  # the plugin
    reason: str
    factor: float = 1.0  # the plugin's factor of the learning rate from now on


class RunControl:
    """What one plugin may change of a running training; its hooks get it as `control`.

    Attributes:
        state: JSON data of the plugin alone: texts, numbers, lists, and dicts with texts as keys; a tuple comes back as
            a list. It is saved with every checkpoint and is back before `crema_train_started` of a resumed run.

    Example:
        >>> control = RunControl("crema-plateau 0.1.0 (plateau)")
        >>> control.set_lr_factor(0.5, reason="two evaluations without progress")
        >>> control.lr_factor
        0.5
    """

    def __init__(self, by: str) -> None:
        self.by = by
        self.state: dict[str, Any] = {}
        self._lr_factor = 1.0
        self._changes: list[RunChange] = []

    @property
    def lr_factor(self) -> float:
        """This plugin's factor of the learning rate, 1.0 from the start."""
        return self._lr_factor

    def set_lr_factor(self, factor: float, *, reason: str) -> None:
        """Multiply the schedule's learning rate by `factor` from the next update on, until it is set again.

        It replaces the plugin's earlier factor; factors of several plugins are multiplied.

        Args:
            factor: finite, 0 or more.
            reason: for the metrics file and the report.

        Raises:
            HookError: for another factor; nothing is changed then.
        """
        if not (math.isfinite(factor) and factor >= 0):
            raise HookError(
                f"The factor {factor!r} of the learning rate is not accepted. It is a finite number, 0 or more. Pass "
                "another factor; the learning rate was not changed."
            )
        if factor != self._lr_factor:
            self._lr_factor = float(factor)
            self._changes.append(RunChange("lr_factor", self.by, str(reason), self._lr_factor))

    def stop(self, reason: str) -> None:
        """End the run before the next update, as if it had come to its end, with a last checkpoint.

        `crema resume` continues it. The first reason counts where several are given.

        Args:
            reason: for the metrics file, the report and the result of `fit`.
        """
        if not any(change.kind == "stop" for change in self._changes):
            self._changes.append(RunChange("stop", self.by, str(reason)))


class RunControls:
    """The controls of all plugins of one run."""

    def __init__(self) -> None:
        self._own: dict[str, RunControl] = {}

    @property
    def lr_factor(self) -> float:
        """What the schedule's learning rate is multiplied with; 1.0 when no plugin has set a factor."""
        return math.prod(self._own[key].lr_factor for key in sorted(self._own))  # in one order: rounding depends on it

    def of(self, key: str, name: str) -> RunControl:
        """Return a plugin's control.

        Args:
            key: under which a checkpoint keeps it, the same for all versions of a package.
            name: what messages call the plugin.
        """
        control = self._own.setdefault(key, RunControl(name))
        control.by = name  # a resumed run may have another version
        return control

    def take(self) -> list[RunChange]:
        """Return what was asked for since the last call, in the order of the plugins' keys."""
        changes: list[RunChange] = []
        for key in sorted(self._own):
            own = self._own[key]
            changes += own._changes
            own._changes = []
        return changes

    def state_dict(self, *, report: Callable[[str], None]) -> dict[str, Any]:
        """Return what a checkpoint needs, as JSON data.

        Args:
            report: called with a sentence when a plugin's `state` is not JSON data; what is returned has an empty one.
        """
        found: dict[str, Any] = {}
        for key, own in sorted(self._own.items()):
            try:
                state = json.loads(json.dumps(own.state))
            except (TypeError, ValueError) as error:
                report(
                    f"{own.by}: its control.state cannot be saved ({error}), so a resumed run begins without it. "
                    "Accepted are texts, numbers, lists, and dicts with texts as keys. Keep other things in the plugin."
                )
                state = {}
            if state or own.lr_factor != 1.0:
                found[key] = {"name": own.by, "lr_factor": own.lr_factor, "state": state}
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for key, own in state.items():
            control = self.of(key, own["name"])
            control._lr_factor, control.state = own["lr_factor"], own["state"]

    def absent(self, keys: frozenset[str]) -> list[RunControl]:
        """Return the controls that scale the learning rate although their plugin is not among `keys`."""
        return [own for key, own in sorted(self._own.items()) if key not in keys and own.lr_factor != 1.0]
