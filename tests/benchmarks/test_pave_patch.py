"""The benchmark of PAVE's patch measures what it says; its numbers are compared in the package's own tests."""

from __future__ import annotations

import pytest

from benchmarks import pave_patch


def test_every_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pave_patch, "SIZES", {"few": (4, 3, 8)})
    monkeypatch.setattr(pave_patch, "FRAMES", 2)
    monkeypatch.setattr(pave_patch, "QUERIES", 4)
    for way in pave_patch.WAYS:
        for backward in (True, False):
            row = pave_patch.measure("few", way, backward=backward, repeats=1)
            assert (row["way"], row["pass"]) == (way, "forward, backward" if backward else "forward")
            assert isinstance(row["peak_mb"], int)
            assert row["peak_mb"] > 0
