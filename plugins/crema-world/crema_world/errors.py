"""The error of this room: a world or a tiny backbone that cannot be made."""

from __future__ import annotations

from crema_core.errors import CremaError


class WorldError(CremaError):
    """A world cannot be written as asked; what was on the disk before is unchanged."""
