"""What a check is, and what it found.

A check is a named function with a docstring that states what it looks at, why, and how to repair a plugin. The names
never change their meaning, because packages announce expected failures by them; the documentation of the checks is
generated from the docstrings.
"""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from crema_core.errors import ConformanceError

if TYPE_CHECKING:
    from crema_core.testing.under_test import PluginUnderTest

Tier = Literal["bronze", "silver", "gold"]
TIERS: tuple[Tier, ...] = ("bronze", "silver", "gold")

Status = Literal["passed", "failed", "expected failure", "unexpected pass", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "expected failure", "unexpected pass", "skipped")

Under = TypeVar("Under", bound="PluginUnderTest[Any]")

ROOM = "crema_core.testing.checks"
CheckedKind = Literal["modality", "fusion"]
MODULES: dict[CheckedKind, dict[Tier, str]] = {
    "modality": {"bronze": "declared", "silver": "alone", "gold": "in_model"},
    "fusion": {"bronze": "declared", "silver": "fusion", "gold": "fusion"},
}
"""The module of `crema_core.testing.checks` with the checks of a kind and tier; the bronze one imports no torch."""


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str  # the function's name
    tier: Tier  # bronze is static, silver runs the modality alone, gold runs it in a model
    run: Callable[..., None]  # raises when what it is given does not conform
    # checks without which this one would only repeat their failure; it is skipped after one of them failed. Those of
    # another kind do not count.
    needs: tuple[str, ...] = ()
    package: bool = False  # it looks at an installed package, so it is skipped for a spec or class given in the process
    kinds: tuple[CheckedKind, ...] = ("modality",)  # what it checks

    @property
    def documentation(self) -> str:
        """What the check looks at, why, and how to repair a plugin."""
        return inspect.getdoc(self.run) or ""


def check(
    tier: Tier, *, needs: tuple[str, ...] = (), package: bool = False, kinds: tuple[CheckedKind, ...] = ("modality",)
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


def checks_up_to(tier: Tier, *, kind: CheckedKind = "modality") -> tuple[Check, ...]:
    """Return the checks of a kind up to a tier, in the order they run; those of bronze import no torch."""
    tiers = TIERS[: TIERS.index(tier) + 1]
    modules = [importlib.import_module(f"{ROOM}.{name}") for name in dict.fromkeys(MODULES[kind][own] for own in tiers)]
    found: list[Check] = [
        value.__dict__["check"]
        for module in modules
        for value in vars(module).values()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and "check" in value.__dict__
    ]
    return tuple(check for check in found if kind in check.kinds and check.tier in tiers)


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: name of the check.
        tier: the tier it belongs to.
        status: `expected failure` and `unexpected pass` only where a failure was announced with a reason.
        message: what is wrong, or why the check was skipped or expected to fail; empty when it passed.
        seconds: wall time.
    """

    check: str
    tier: Tier
    status: Status
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """The outcomes of all checks that ran on one modality.

    Attributes:
        under_test: the modality's name.
        provider: `distribution version`, or how the spec was given.
        results: in the order of the tiers.
        counts: how many checks every tier that ran has.
    """

    under_test: str
    provider: str
    results: tuple[Result, ...]
    counts: dict[Tier, int]

    @property
    def tier(self) -> Tier | None:
        """The highest tier all of whose checks, and those of the tiers below, passed; None below bronze.

        Computed, never declared: a failure that was announced is a failure, a check that was skipped did not pass.
        """
        reached: Tier | None = None
        for tier in TIERS:
            passed = [result for result in self.results if result.tier == tier and result.status == "passed"]
            if not self.counts.get(tier) or len(passed) < self.counts[tier]:
                break
            reached = tier
        return reached

    @property
    def findings(self) -> tuple[Result, ...]:
        """Failures and announced failures that did not happen."""
        return tuple(result for result in self.results if result.status in ("failed", "unexpected pass"))

    def of(self, check: str) -> Result:
        """Return one check's result."""
        return next(result for result in self.results if result.check == check)

    def describe(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "subject": self.under_test,
            "provider": self.provider,
            "tier": self.tier,
            "counts": dict(Counter(result.status for result in self.results)),
            "results": [asdict(result) for result in self.results],
        }

    def __str__(self) -> str:
        lines = [f"{self.under_test} ({self.provider})"]
        for result in self.results:
            lines.append(f"  {result.tier:<6}  {result.check}: {result.status} ({result.seconds:.1f} s)")
            lines += [f"          {line}" for line in result.message.splitlines()]
        counts = Counter(result.status for result in self.results)
        found = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        lines.append(f"{len(self.results)} checks: {found} – tier {self.tier or 'none'}")
        return "\n".join(lines)
