"""Vision towers: frozen encoders of frames and clips beside the backbone's own, one small file per family.

Every sense that sees may use them, and a strategy may run several on one clip. Another package adds one with an entry
point of the group `crema.encoders` that names a subclass of `Tower`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from crema_core.errors import ContractError, OptionsError, PluginLoadError, did_you_mean
from crema_core.plugins.lookup import offered

if TYPE_CHECKING:
    from crema_core.video.towers.base import Tower

GROUP = "crema.encoders"
TOWERS: dict[str, str] = {
    "clip": "crema_core.video.towers.clip:ClipTower",
    "dinov2": "crema_core.video.towers.dinov2:Dinov2Tower",
    "dinov3": "crema_core.video.towers.dinov3:Dinov3Tower",
    "languagebind": "crema_core.video.towers.languagebind:LanguageBindTower",
    "siglip": "crema_core.video.towers.siglip:SiglipTower",
    "timm": "crema_core.video.towers.timm:TimmTower",
    "videomae": "crema_core.video.towers.videomae:VideoMaeTower",
    "vivit": "crema_core.video.towers.vivit:VivitTower",
    "vjepa2": "crema_core.video.towers.vjepa2:Vjepa2Tower",
}


def tower_names() -> tuple[str, ...]:
    """Return the names of all towers, of core and of installed packages."""
    return tuple(sorted({*TOWERS, *(entry.name for entry in offered(GROUP))}))


def tower_class(name: str) -> type[Tower]:
    """Import a tower's class.

    Raises:
        OptionsError: when there is none of this name.
        PluginLoadError: when an installed package's cannot be imported.
        ContractError: when what it names is no `Tower`.
    """
    from crema_core.video.towers.base import Tower

    if name in TOWERS:
        module, _, attribute = TOWERS[name].partition(":")
        own: type[Tower] = getattr(importlib.import_module(module), attribute)
        return own
    entry = next((entry for entry in offered(GROUP) if entry.name == name), None)
    if entry is None:
        known = tower_names()
        raise OptionsError(
            f"'{name}' is no vision encoder. Accepted: backbone, {', '.join(known)}."
            f"{did_you_mean(name, ('backbone', *known))} Use one of these, or install the package that adds it."
        )
    try:
        found = entry.load()
    except Exception as error:
        raise PluginLoadError(
            f"The vision encoder '{name}' of {entry.provider} could not be imported from {entry.reference}: "
            f"{type(error).__name__}: {error}. Install the package again, or use another encoder."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Tower)):
        raise ContractError(
            f"The vision encoder '{name}' of {entry.provider} ({entry.reference}) is no subclass of Tower. An entry "
            f"point of the group {GROUP} names one. Write: class ...(crema_core.video.towers.base.Tower)."
        )
    return found
