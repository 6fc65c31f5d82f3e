"""The kit as a pytest test: one test per check, for the three-line test file of a package."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from crema_core.plugins.spec import ModalitySpec
from crema_core.testing.check import CheckedKind, checks_up_to
from crema_core.testing.report import Tier
from crema_core.testing.session import Session
from crema_core.testing.subject import find_fusion, find_subject

if TYPE_CHECKING:
    from crema_core.fusion.base import Fusion
    from crema_core.testing.report import Result


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
        if own == "fusion":
            assert not isinstance(item, ModalitySpec), "a spec declares a modality"
            return Session(find_fusion(item), tier=tier, expected_failures=expected_failures)
        assert not isinstance(item, type), "a class is a fusion"
        return Session(find_subject(item), tier=tier, expected_failures=expected_failures)

    @pytest.mark.parametrize("check", [check.name for check in checks_up_to(tier, kind=own)])
    def test_conformance(check: str) -> None:
        _tell(session().result(check))

    return test_conformance


def _tell(result: Result) -> None:
    import pytest

    if result.status in ("failed", "unexpected pass"):
        pytest.fail(result.message, pytrace=False)
    if result.status == "expected failure":
        pytest.xfail(result.message)
    if result.status == "skipped":
        pytest.skip(result.message)
