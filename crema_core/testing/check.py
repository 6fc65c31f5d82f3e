"""What a check is: a named function with a docstring that says what it looks at, why, and how to repair a plugin.

The names never change their meaning, because packages announce expected failures by them; the documentation of the
checks is generated from the docstrings.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from crema_core.errors import ConformanceError
from crema_core.testing.report import TIERS, Tier

if TYPE_CHECKING:
    from crema_core.testing.subject import PluginUnderTest

Under = TypeVar("Under", bound="PluginUnderTest")

ROOM = "crema_core.testing.checks"
CheckedKind = Literal["modality", "fusion"]
MODULES: dict[CheckedKind, dict[Tier, tuple[str, ...]]] = {
    "modality": {
        "bronze": ("declaration", "options", "imports", "package"),
        "silver": ("building", "samples", "processes", "features", "refusals"),
        "gold": ("training", "neighbours"),
    },
    "fusion": {"bronze": ("fusion_class", "package"), "silver": ("fusion_layout",), "gold": ("fusion_model",)},
}
"""The groups of checks by kind and tier, each a module of `crema_core.testing.checks`; bronze ones import no torch."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: the function's name.
        tier: bronze is static, silver runs the sense alone, gold runs it in a model.
        run: raises when what it is given does not conform.
        needs: checks without which this one would only repeat their failure; it is skipped after one of them failed.
            Those of another kind do not count.
        package: it looks at an installed package, so it is skipped for a spec or class given in the process.
        kinds: what it checks.
    """

    name: str
    tier: Tier
    run: Callable[..., None]
    needs: tuple[str, ...] = ()
    package: bool = False
    kinds: tuple[CheckedKind, ...] = ("modality",)

    @property
    def documentation(self) -> str:
        """What the check looks at, why, and how to repair a plugin."""
        return inspect.getdoc(self.run) or ""


def check(
    tier: Tier,
    *,
    needs: tuple[str, ...] = (),
    package: bool = False,
    kinds: tuple[CheckedKind, ...] = ("modality",),
) -> Callable[[Callable[[Under], None]], Callable[[Under], None]]:
    """Make a function a check; it stays an ordinary function."""

    def mark(function: Callable[[Under], None]) -> Callable[[Under], None]:
        function.__dict__["check"] = Check(function.__name__, tier, function, needs, package, kinds)
        return function

    return mark


def require(condition: bool, message: str) -> None:
    """Raise `ConformanceError` with `message` unless `condition` holds."""
    if not condition:
        raise ConformanceError(message)


def tiers_up_to(tier: Tier) -> tuple[Tier, ...]:
    """Return the tier with those below it."""
    return TIERS[: TIERS.index(tier) + 1]


def checks_up_to(tier: Tier, *, kind: CheckedKind = "modality") -> tuple[Check, ...]:
    """Return the checks of a tier and of those below it, in the order they run; bronze alone imports no torch.

    Args:
        tier: the highest.
        kind: what is checked.
    """
    names = [name for own in tiers_up_to(tier) for name in MODULES[kind][own]]
    modules = [importlib.import_module(f"{ROOM}.{name}") for name in names]
    found: list[Check] = [
        value.__dict__["check"]
        for module in modules
        for value in vars(module).values()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and "check" in value.__dict__
    ]
    return tuple(check for check in found if kind in check.kinds)
