"""Run the checks on one modality or fusion, each at most once, after those it needs: a report, or a pytest test."""

from __future__ import annotations

import functools
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crema_core.errors import (
    ConformanceError,
    CremaError,
    OptionsError,
    PluginError,
    PluginExitError,
    did_you_mean,
)
from crema_core.plugins.fence import fault_text, fenced
from crema_core.plugins.spec import ModalitySpec
from crema_core.testing.check import TIERS, Check, CheckedKind, Report, Result, Status, Tier, checks_up_to
from crema_core.testing.under_test import FusionUnderTest, PluginUnderTest, find_under_test

if TYPE_CHECKING:
    from crema_core.fusion.base import Fusion


class Fault(NamedTuple):
    """One check that failed, while the values it failed with are still there."""

    check: Check
    message: str  # as in the report
    error: BaseException  # what was raised, with its traceback
    package: str  # the name under which what was checked is imported


OnFault = Callable[[Fault], None]
"""Called with each check that fails."""


def conformance(
    item: str | ModalitySpec | type[Fusion],
    *,
    kind: CheckedKind = "modality",
    tier: Tier = "gold",
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[[str], None]:
    """Return a pytest test with one case per check.

    Args:
        item: a name, `distribution:name`, a modality's spec or a fusion's class.
        kind: what a name names: "modality" or "fusion".
        tier: the highest tier that runs.
        expected_failures: check -> why it is known to fail; one that passes makes its test fail.

    Example:
        >>> test_conformance = conformance("video", expected_failures={"bf16_autocast_works": "fp32 only"})
        >>> test_fusion = conformance("self_gated", kind="fusion")
    """
    import pytest  # needed by nobody who only builds models

    own: CheckedKind = "fusion" if isinstance(item, type) else kind

    @functools.cache
    def session() -> Session:
        return Session(find_under_test(item, kind=own), tier, expected_failures)

    @pytest.mark.parametrize("check", [check.name for check in checks_up_to(tier, kind=own)])
    def test_conformance(check: str) -> None:
        result = session().result(check)
        if result.status in ("failed", "unexpected pass"):
            pytest.fail(result.message, pytrace=False)
        if result.status == "expected failure":
            pytest.xfail(result.message)
        if result.status == "skipped":
            pytest.skip(result.message)

    return test_conformance


def check_modality(
    item: str | ModalitySpec,
    *,
    tier: Tier = "gold",
    expected_failures: Mapping[str, str] | None = None,
    on_fault: OnFault | None = None,
) -> Report:
    """Check one modality against the contract.

    Args:
        item: a name, `distribution:name`, or a spec given in this process.
        tier: the highest tier that runs: "bronze" (static), "silver" (the modality alone) or "gold" (in a model).
        expected_failures: check -> why it is known to fail.
        on_fault: called with each check that fails, before the values it failed with are gone; for debuggers.

    Returns:
        the outcomes; `report.tier` is what the modality reaches, `report.findings` what is wrong.

    Raises:
        UnknownModalityError: when nothing provides the name.
        OptionsError: for an unknown tier or expected failure.

    Example:
        >>> check_modality("video", tier="bronze").tier
        'bronze'
    """
    return Session(find_under_test(item), tier, expected_failures, on_fault).report()


def check_fusion(
    item: str | type[Fusion],
    *,
    tier: Tier = "gold",
    expected_failures: Mapping[str, str] | None = None,
    on_fault: OnFault | None = None,
) -> Report:
    """Check one fusion against the contract.

    Args:
        item: a name, `distribution:name`, or a class given in this process.
        tier: the highest tier that runs: "bronze" (static), "silver" (what it lays out) or "gold" (in a model).
        expected_failures: check -> why it is known to fail.
        on_fault: called with each check that fails, before the values it failed with are gone; for debuggers.

    Returns:
        the outcomes; `report.tier` is what the fusion reaches, `report.findings` what is wrong.

    Raises:
        OptionsError: when nothing provides the name; for an unknown tier or expected failure.

    Example:
        >>> check_fusion("self_gated", tier="bronze").tier
        'bronze'
    """
    return Session(find_under_test(item, kind="fusion"), tier, expected_failures, on_fault).report()


class Session:
    """The checks of one modality or fusion up to a tier; those expected to fail are given with the reason.

    `on_fault` is called with each check that fails, before the values it failed with are gone.

    Raises:
        OptionsError: for an unknown tier, an expected failure that is no check, or one without a reason.
    """

    def __init__(
        self,
        under_test: PluginUnderTest[Any],
        tier: Tier,
        expected_failures: Mapping[str, str] | None,
        on_fault: OnFault | None = None,
    ) -> None:
        if tier not in TIERS:
            raise OptionsError(f"'{tier}' is not a tier. Tiers: {', '.join(TIERS)}.{did_you_mean(tier, TIERS)}")
        self.under_test = under_test
        self.kind: CheckedKind = "fusion" if isinstance(under_test, FusionUnderTest) else "modality"
        self.checks = {check.name: check for check in checks_up_to(tier, kind=self.kind)}
        self.expected = dict(expected_failures or {})
        self.on_fault = on_fault
        self._results: dict[str, Result] = {}
        for name, reason in self.expected.items():
            every = self.checks if name in self.checks else {own.name for own in checks_up_to("gold", kind=self.kind)}
            if name not in every:
                raise OptionsError(
                    f"expected_failures names '{name}', which is not a check.{did_you_mean(name, every)} "
                    "List the checks: crema plugins check --list"
                )
            if not reason.strip():
                raise OptionsError(
                    f"expected_failures gives no reason for '{name}'. An announced failure states why it is known. "
                    f'Write: expected_failures={{"{name}": "why"}}'
                )

    def report(self) -> Report:
        """Run every check."""
        results = tuple(self.result(name) for name in self.checks)
        counts = Counter(check.tier for check in self.checks.values())
        return Report(self.under_test.name, self.under_test.provider, results, dict(counts))

    def result(self, name: str) -> Result:
        """Run one check, after those it needs; a second call returns the same result."""
        if name not in self._results:
            check, start, expected = self.checks[name], time.perf_counter(), self.expected.get(name)
            obstacle = self._obstacle(check)
            status: Status
            fault = _fault(check, self.under_test, self.on_fault) if obstacle is None else None
            if obstacle is not None:
                status, message = "skipped", obstacle
            elif expected is None:
                status, message = ("passed", "") if fault is None else ("failed", fault)
            elif fault is not None:
                status, message = "expected failure", f"{expected}\n{fault}"
            else:
                status = "unexpected pass"
                message = f"It passes, although it was expected to fail ({expected}). Take it out of expected_failures."
            self._results[name] = Result(name, check.tier, status, message, time.perf_counter() - start)
        return self._results[name]

    def _obstacle(self, check: Check) -> str | None:
        if check.package and self.under_test.distribution is None:
            given = "class" if self.kind == "fusion" else "spec"
            return f"the {given} was given in this process; install its package to check this"
        needs = [name for name in check.needs if name in self.checks]
        stopped = [name for name in needs if self.result(name).status not in ("passed", "unexpected pass")]
        return f"it needs {stopped[0]}, which did not pass" if stopped else None


def _fault(check: Check, under_test: PluginUnderTest[Any], on_fault: OnFault | None) -> str | None:
    """Run a check and return what is wrong, or None; `on_fault` is called before the values of the fault are gone."""
    under_test.options = under_test.batch = ""
    try:
        with fenced(f"running the check {check.name}", provider=under_test.provider, patience_s=None):
            check.run(under_test)
    except ConformanceError as error:
        fault = f"{error}{_tried(under_test)}\nExpected: {check.summary}\nFix: {check.fix}"
        own: BaseException = under_test.declared if isinstance(under_test.declared, PluginError) else error
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises is a finding, not an end
        own = error.__cause__ if isinstance(error, PluginExitError) and error.__cause__ else error
        last = traceback.extract_tb(own.__traceback__)[-1]
        where = "" if isinstance(own, CremaError) else f" ({Path(last.filename).name}, line {last.lineno})"
        fault = f"{fault_text(error)}{where}{_tried(under_test)}"
    else:
        return None
    if on_fault is not None:
        on_fault(Fault(check, fault, own, under_test.package))
    return fault


def _tried(under_test: PluginUnderTest[Any]) -> str:
    """Return what was tried when a check failed: which options, which samples."""
    lines = {"Options": under_test.options, "Batch": under_test.batch}
    return "".join(f"\n{name}: {text}" for name, text in lines.items() if text)
