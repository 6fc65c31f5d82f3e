"""Fusion strategies by name, those of core and of installed packages alike: entry points of `crema.fusions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crema_core.errors import OptionsError, PluginError
from crema_core.fusion.base import Fusion, FusionSizes, FusionWatch, SenseSet, VisualLayout
from crema_core.plugins import registry

__all__ = [
    "Fusion",
    "FusionSizes",
    "FusionWatch",
    "SenseSet",
    "VisualLayout",
    "fusion_class",
    "fusion_classes",
    "make_fusion",
]


def fusion_class(name: str) -> type[Fusion]:
    """Return the class of a strategy.

    Args:
        name: `name` or `distribution:name`.

    Raises:
        OptionsError: for a name nothing provides; it says what is near or what to install.
        PluginError: when its package is switched off, broken, or not the only one of this name.

    Example:
        >>> fusion_class("concat").__name__
        'ConcatFusion'
    """
    found: type[Fusion] = registry.load("fusion", name)
    return found


def fusion_classes() -> dict[str, type[Fusion]]:
    """Return every strategy that can be used by its bare name; a broken package's is left out."""
    found = {}
    for name in registry.usable_names("fusion"):
        try:
            found[name] = fusion_class(name)
        except PluginError:
            continue
    return found


def make_fusion(
    name: str, supports: Sequence[str], sizes: FusionSizes, *, options: Mapping[str, Any] | None = None
) -> Fusion:
    """Build a fusion by name.

    Args:
        name: `name` or `distribution:name` of an installed strategy.
        supports: supporting senses, in the order of `build`.
        sizes: what it is built for.
        options: further arguments of the strategy.

    Raises:
        OptionsError: for an unknown name or option.
        PluginError: as `fusion_class`.
    """
    strategy = fusion_class(name)
    try:
        return strategy.for_sizes(supports, sizes, **(options or {}))
    except TypeError as error:
        raise OptionsError(
            f"fusion {name!r} cannot take {dict(options or {})}: {error}. Leave the options out."
        ) from error
