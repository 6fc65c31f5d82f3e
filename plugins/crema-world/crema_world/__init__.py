"""SenseWorld: a generated multi-sensory world, and the backbones trained on its text and its RGB.

With these nobody needs a hub, a data set or a GPU to see everything work. Importing this package imports neither
numpy nor torch; its functions import what they need when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crema_world.errors import WorldError

if TYPE_CHECKING:
    from crema_world.generate import WorldSummary, make_world

__all__ = ["WorldError", "WorldSummary", "make_world"]

_LAZY = frozenset({"WorldSummary", "make_world"})


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from crema_world import generate

        return getattr(generate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
