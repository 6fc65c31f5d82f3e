"""A saved folder is described by one JSON file in it, which says the folder's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crema_core.common.atomic import require_complete
from crema_core.errors import CheckpointError


def read_described(place: Path, name: str, *, what: str, writer: str, accepted: int) -> dict[str, Any]:
    """Read the description of a saved folder.

    Args:
        place: the folder.
        name: of the JSON file in it.
        what: what the folder holds, for the message.
        writer: the function that wrote it, for the message.
        accepted: the format this version reads.

    Raises:
        CheckpointError: when the folder is incomplete or of another format.
    """
    require_complete(place, what=f"saved {what}")
    try:
        description: dict[str, Any] = json.loads((place / name).read_text(encoding="utf-8"))
        found = description["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{place / name}' cannot be read: {error!r}. It must be the JSON file {writer} wrote. Copy the folder "
            "again. Nothing was changed."
        ) from error
    if found != accepted:
        raise CheckpointError(
            f"'{place}' has {what} format {found}. This version reads format {accepted}. Upgrade crema-core. Nothing "
            "was changed."
        )
    return description
