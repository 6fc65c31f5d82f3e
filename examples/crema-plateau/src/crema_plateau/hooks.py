"""Halve the learning rate when validation accuracy no longer rises, then stop the run; imports no torch."""

import os
from collections.abc import Mapping

from crema_core.plugins.control import RunControl
from crema_core.plugins.hookspecs import hookimpl

REDUCE_AFTER, STOP_AFTER = "CREMA_PLATEAU_REDUCE_AFTER", "CREMA_PLATEAU_STOP_AFTER"


@hookimpl
def crema_evaluated(metrics: Mapping[str, float], control: RunControl | None) -> None:
    """Compare with the best accuracy so far; what is remembered is in `control.state`, so a resumed run knows it."""
    if control is None:  # `evaluate` was called alone
        return
    score, state = metrics["accuracy"], control.state
    if score > state.get("best", -1.0):
        state.update(best=score, waited=0)
        return
    state["waited"] += 1
    reason = f"accuracy has not risen above {state['best']:.1%} in {state['waited']} evaluations"
    if state["waited"] >= int(os.environ.get(STOP_AFTER, "6")):
        state["waited"] = 0  # saved with the last checkpoint: whoever resumes the run wants it to go on
        control.stop(reason)
    elif state["waited"] % int(os.environ.get(REDUCE_AFTER, "2")) == 0:
        control.set_lr_factor(control.lr_factor / 2, reason=reason)
