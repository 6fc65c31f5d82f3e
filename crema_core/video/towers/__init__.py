"""Vision towers: frozen encoders of frames and clips beside the backbone's own, one small file per family.

Every sense that sees may use them, and a strategy may run several on one clip. Another package adds one with an entry
point of the group `crema.encoders` that names a subclass of `Tower`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crema_core.errors import OptionsError, did_you_mean
from crema_core.plugins import registry

if TYPE_CHECKING:
    from crema_core.video.towers.base import Tower


def tower_names() -> tuple[str, ...]:
    """Return the names of all towers, of core and of installed packages."""
    return registry.usable_names("encoder")


def tower_class(name: str) -> type[Tower]:
    """Import a tower's class.

    Args:
        name: `name` or `distribution:name`.

    Raises:
        OptionsError: when there is none of this name.
        PluginError: when an installed package's cannot be imported, names no `Tower`, or is not the only one.
    """
    if name.rpartition(":")[2] not in registry.installed_names("encoder"):
        known = tower_names()
        raise OptionsError(
            f"'{name}' is no vision encoder. Accepted: backbone, {', '.join(known)}."
            f"{did_you_mean(name, ('backbone', *known))} Use one of these, or install the package that adds it."
        )
    found: type[Tower] = registry.load("encoder", name)
    return found
