"""The presets that are installed."""

from __future__ import annotations

from crema_core.errors import PluginError
from crema_core.plugins import registry
from crema_core.plugins.preset import PresetFamily


def preset_names() -> tuple[str, ...]:
    """Return the names of all settings that can be used, variants of families included; a broken package's are not."""
    names: list[str] = []
    for own in registry.usable_names("preset"):
        try:
            found = registry.load("preset", own)
        except PluginError:
            continue
        names += [f"{own}-{variant}" for variant in found.variants] if isinstance(found, PresetFamily) else [own]
    return tuple(names)
