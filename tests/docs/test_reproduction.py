"""The page of the papers' claims: the commands it names exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from crema_core.cli.main import main
from tests.support.packages import needs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]


def named(pattern: str) -> list[str]:
    """Return what a pattern finds on the page, once each."""
    return sorted(set(re.findall(pattern, PAGE)))


def test_every_benchmark_is_there() -> None:
    modules = named(r"python -m (benchmarks\.\w+)")
    assert len(modules) >= 5
    for module in modules:
        assert importlib.util.find_spec(module) is not None, module


@needs("crema-benchmarks", "crema-videochat2", "crema-pave", "crema-merv")
def test_every_preset_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [row for row in ROWS if "--preset" in row]
    known = {name for row in runs for name in re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", row)}
    known |= set(named(r"--preset ([a-z][a-z0-9-]+)"))
    assert {"nextqa-vfdn", "videochat2-nextqa-vfd", "pave-interleave", "merv-frozen"} <= known
    for name in sorted(known):
        assert main(["fit", "--preset", name, "--show"]) == 0, name
    assert "# preset nextqa-vfdn" in capsys.readouterr().out


@needs("crema-analysis", "crema-world")
def test_every_table_that_is_asked_for_alone_is_one() -> None:
    from benchmarks.table_jobs import plans
    from benchmarks.tables import DIFFICULTY

    titles = {plan.title for plan in plans()} | {DIFFICULTY}
    asked = {quoted or word for quoted, word in re.findall(r'benchmarks\.tables --only (?:"([^"]+)"|(\w+))', PAGE)}
    assert {"fusion", "training", "rank", "connector", "queries", "major modality", DIFFICULTY} <= asked <= titles


def test_every_claim_has_an_outcome() -> None:
    """A row ends with what came out, in one of the words that the page explains."""
    of_papers = PAGE[PAGE.index("### CREMA") : PAGE.index("## Adaptive early exit")]
    claims = [
        row for row in of_papers.splitlines() if row.count("|") == 6 and "| where |" not in row and "---" not in row
    ]
    assert len(claims) > 25
    words = ("hold", "cannot be decided", "not measured yet", "pictures are drawn", "held by tests", "counted")
    for row in claims:
        last = row.rsplit(" | ", 1)[1]
        assert any(word in last for word in words), row
