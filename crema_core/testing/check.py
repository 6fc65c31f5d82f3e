"""What a check is, and what it found.

A check is a named function in `crema_core.testing.checks` whose docstring states what it looks at; `checks.yaml` beside
this file has its tier, what it needs, why it is there and how to repair a plugin. The names never change their meaning,
because packages announce expected failures by them; the documentation of the checks is generated from both.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from crema_core.errors import ConformanceError

if TYPE_CHECKING:
    from crema_core.testing.under_test import PluginUnderTest

Tier = Literal["bronze", "silver", "gold"]
TIERS: tuple[Tier, ...] = ("bronze", "silver", "gold")

Status = Literal["passed", "failed", "expected failure", "unexpected pass", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "expected failure", "unexpected pass", "skipped")

CheckedKind = Literal["modality", "fusion"]
CHECKED_KINDS: tuple[CheckedKind, ...] = ("modality", "fusion")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check, as `checks.yaml` declares it, where its fields are explained."""

    module: str  # of `crema_core.testing.checks`; `declared` imports no torch, the others do
    name: str  # the function's name
    tier: Tier
    why: str
    fix: str
    kinds: tuple[CheckedKind, ...] = ("modality",)
    needs: tuple[str, ...] = ()
    package: bool = False

    @property
    def run(self) -> Callable[[PluginUnderTest[Any]], None]:
        """The function; it raises when what it is given does not conform."""
        function: Callable[[PluginUnderTest[Any]], None]
        function = pkgutil.resolve_name(f"crema_core.testing.checks.{self.module}:{self.name}")
        return function

    @property
    def summary(self) -> str:
        """What the check looks at, in a sentence."""
        return " ".join((inspect.getdoc(self.run) or "").split())

    @property
    def documentation(self) -> str:
        """What the check looks at, why, and how to repair a plugin."""
        rest = [textwrap.fill(text, 118, break_on_hyphens=False) for text in (f"Why: {self.why}", f"Fix: {self.fix}")]
        return "\n".join([inspect.getdoc(self.run) or "", "", *rest])


def require(condition: bool, message: str) -> None:
    """Raise `ConformanceError` unless `condition` holds; what is expected and how to repair it follow in the report.

    Args:
        condition: what must be.
        message: what was found instead.
    """
    if not condition:
        raise ConformanceError(message)


def checks_up_to(tier: Tier, *, kind: CheckedKind = "modality") -> tuple[Check, ...]:
    """Return the checks of a kind up to a tier, in the order they run; nothing is imported."""
    tiers = TIERS[: TIERS.index(tier) + 1]
    return tuple(check for check in _every_check() if kind in check.kinds and check.tier in tiers)


@functools.cache
def _every_check() -> tuple[Check, ...]:
    modules = yaml.safe_load(Path(__file__).with_name("checks.yaml").read_text(encoding="utf-8"))
    found = []
    for module, checks in modules.items():
        for name, own in checks.items():
            lists = {key: tuple(own[key]) for key in ("kinds", "needs") if key in own}
            found.append(Check(module=module, name=name, **own | lists))
    return tuple(found)


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
