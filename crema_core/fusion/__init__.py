"""Fusion strategies by name, those of core and of installed packages alike: entry points of `crema.fusions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crema_core.errors import OptionsError
from crema_core.fusion.base import Fusion, FusionPlan, FusionSizes
from crema_core.plugins import registry


def fusion_class(name: str) -> type[Fusion]:
    """Return the class of a strategy.

    Args:
        name: `name` or `distribution:name`.

    Raises:
        OptionsError: for a name nothing provides; it names what is near or what to install.
        PluginError: when its package is switched off, broken, or not the only one of this name.

    Example:
        >>> fusion_class("concat").__name__
        'ConcatFusion'
    """
    found: type[Fusion] = registry.load("fusion", name)
    return found


def plan_fusion(fusion: str | Mapping[str, Any]) -> FusionPlan:
    """Return what `build` makes of a strategy, given as its name or as a mapping with name and options.

    Raises:
        OptionsError: for an unknown name, or options that are refused before anything is loaded.
    """
    given = {"name": fusion} if isinstance(fusion, str) else dict(fusion)
    if "name" not in given:
        raise OptionsError(
            f"{given!r} names no fusion. Accepted: a name, or a mapping with 'name' and options. Write "
            "{'name': ..., 'option': value}."
        )
    return fusion_class(str(given.pop("name"))).plan(given)


def build_fusion(name: str, plan: FusionPlan, supporting: Sequence[str], sizes: FusionSizes) -> Fusion:
    """Build a planned fusion.

    Args:
        name: of the strategy, for messages.
        plan: of it.
        supporting: supporting modalities, in the order of `build`.
        sizes: what it is built for.

    Raises:
        OptionsError: for an unknown option.
    """
    try:
        with registry.in_use("fusion", name, "building the fusion"):
            return plan.fusion.for_sizes(supporting, sizes, **plan.options)
    except TypeError as error:
        raise OptionsError(
            f"fusion {name!r} cannot take {dict(plan.options)}: {error}. Leave the options out."
        ) from error
