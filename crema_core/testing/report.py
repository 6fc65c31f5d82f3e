"""What the checks found, as data: one row per check, counts, and the tier that follows from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

Tier = Literal["bronze", "silver", "gold"]
TIERS: tuple[Tier, ...] = ("bronze", "silver", "gold")

Status = Literal["passed", "failed", "expected failure", "unexpected pass", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "expected failure", "unexpected pass", "skipped")


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
    """The outcomes of all checks that ran on one sense.

    Attributes:
        subject: the sense's name.
        provider: `distribution version`, or how the spec was given.
        results: in the order of the tiers.
        counts: how many checks every tier that ran has.
    """

    subject: str
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
            "subject": self.subject,
            "provider": self.provider,
            "tier": self.tier,
            "counts": dict(Counter(result.status for result in self.results)),
            "results": [asdict(result) for result in self.results],
        }

    def __str__(self) -> str:
        lines = [f"{self.subject} ({self.provider})"]
        for result in self.results:
            lines.append(f"  {result.tier:<6}  {result.check}: {result.status} ({result.seconds:.1f} s)")
            lines += [f"          {line}" for line in result.message.splitlines()]
        counts = Counter(result.status for result in self.results)
        found = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        lines.append(f"{len(self.results)} checks: {found} – tier {self.tier or 'none'}")
        return "\n".join(lines)
