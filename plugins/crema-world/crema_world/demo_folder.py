"""The folder of a demo: which one may be replaced. Imports nothing heavy, so that a wrong folder is refused at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from crema_core.common.atomic import write_text
from crema_core.errors import CheckpointError

MARKER = "demo.json"


def refuse_foreign(out: Path) -> None:
    """Refuse a folder that is neither empty nor an earlier demo's.

    Raises:
        CheckpointError: for such a folder; nothing is changed.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file()):
        raise CheckpointError(
            f"'{out}' exists and is not the folder of an earlier demo. Accepted: a new or empty folder, or one a demo "
            "wrote, which is then replaced. Name another one with --out. Nothing was changed."
        )


def take_over(out: Path, settings: dict[str, Any]) -> None:
    """Empty the folder of an earlier demo and write the settings of this one.

    Raises:
        CheckpointError: for another folder; nothing is changed.
    """
    refuse_foreign(out)
    for name in ("world", "run", "model", "predictions"):
        shutil.rmtree(out / name, ignore_errors=True)
    write_text(out / MARKER, json.dumps(settings, indent=2) + "\n")
