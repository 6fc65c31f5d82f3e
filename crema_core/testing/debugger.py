"""`crema plugins check --pdb`: the debugger at the place where a check failed.

The last frame of a traceback is rarely the one to look at: it is deep in torch, or in the kit, which only noticed. The
debugger opens at the innermost frame of the package; `down` and `up` reach the others.
"""

from __future__ import annotations

import pdb  # noqa: T100 - the debugger is what --pdb is for
from collections.abc import Sequence
from traceback import walk_tb
from types import FrameType, TracebackType

from crema_core.testing.session import Fault

KIT = "crema_core.testing"
JUDGE = f"{KIT}.check"
"""Its `require` is the last frame where a check finds something wrong; the frame above has the values."""


def open_debugger(fault: Fault) -> None:
    """Print what is wrong and open pdb where the package's code failed; returns when the user continues or quits.

    Where no code of the package is left on the stack, the debugger opens in the check, which has what the package
    returned; for a check of metadata and declarations it does not open.
    """
    print(f"{fault.check.name} failed:\n{fault.message}", flush=True)
    error = fault.error
    while error.__cause__ is not None and error.__cause__.__traceback__ is not None:
        error = error.__cause__
    traceback = error.__traceback__
    if traceback is None:
        print("It failed in another process, so there is nothing to look at here.", flush=True)
        return
    above = frames_above(_frames(traceback), fault.package)
    if above is None and fault.check.tier == "bronze":
        return  # metadata and declarations: the message has everything
    debugger = pdb.Pdb()
    above = _above_the_judge(_frames(traceback)) if above is None else above
    if above:
        debugger.cmdqueue.append(f"up {above}")
    debugger.reset()
    debugger.interaction(None, traceback)


def frames_above(frames: Sequence[FrameType], package: str) -> int | None:
    """Return how far the package's innermost frame is above the last one; None: there is none of the package.

    Args:
        frames: of a traceback, outermost first.
        package: the name under which the package is imported.
    """
    for above, module in enumerate(map(_module, reversed(frames))):
        if module.partition(".")[0] == package and not module.startswith(KIT):
            return above
    return None


def _above_the_judge(frames: Sequence[FrameType]) -> int:
    return int(_module(frames[-1]) == JUDGE)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _frames(traceback: TracebackType) -> list[FrameType]:
    return [frame for frame, _ in walk_tb(traceback)]
