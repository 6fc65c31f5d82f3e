"""A process that has imported torch and core but no plugin, and answers one request per line.

Every request is answered in a child of its own, so that one sense never sees another: a fork where there is one, else
this process itself, which then has no second request. Run by the silver checks, see `crema_core.testing.probing`.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

import crema_core.modality
from crema_core.testing.state import changes, registered_model_types, snapshot


def main() -> None:
    """Answer requests until the input ends."""
    assert crema_core.modality.Modality is not None
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork() if hasattr(os, "fork") else 0
        if child == 0:
            answer(json.loads(line))
            if hasattr(os, "fork"):
                os._exit(0)
        else:
            os.waitpid(child, 0)
        print("done", flush=True)


def answer(request: dict[str, Any]) -> None:
    """Import the module, compare the process's state, do the job, and write the outcome into the request's folder."""
    place = Path(request["folder"])
    sys.path[:] = request["path"]
    os.chdir(request["directory"])
    result: dict[str, Any] = {"changes": [], "fault": None}
    try:
        before = snapshot()
        importlib.import_module(request["module"])
        result["changes"] = changes(before, snapshot())
        result["changes"] += [f"transformers' model types by '{name}'" for name in registered_model_types()]
        job = place / "job"
        if job.exists():
            # Written by the checking process a moment ago, never a file of the user's.
            modality, source = pickle.loads(job.read_bytes())
            (place / "sample").write_bytes(pickle.dumps(modality.prepare(source)))
    except Exception:  # noqa: BLE001 - a fault of foreign code is the answer
        result["fault"] = traceback.format_exc(limit=-1).strip()
    (place / "answer").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
