"""Mutants are drawn, tried in a copy and taken back; needs the extra `mutation`."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray")

from benchmarks import mutants

SOURCE = '''"""A room."""


def clamp(value: int | None, *, low: int = 0) -> int:
    """Return 1 + 1."""
    if value is None:
        return low
    noted = []
    noted.append(value)
    return max(value, low) + len(sorted(noted, key=abs, reverse=True)) - 1
'''
TESTS = """from crema_core.water.pump import clamp


def test_a_value_below_is_lifted():
    assert clamp(-1) == 0
    assert clamp(None, low=2) == 2
    assert clamp(3) == 3


def test_that_is_wrong():
    assert clamp(3) == 4
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package with one room and its tests."""
    for path, text in {
        "crema_core/__init__.py": "",
        "crema_core/water/__init__.py": "",
        "crema_core/water/pump.py": SOURCE,
        "crema_core/data.json": "{}",
        "tests/water/test_pump.py": TESTS,
        "tests/other/test_air.py": "import crema_core.air\n",
        "conftest.py": "",
        "pyproject.toml": '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\nmarkers = ["slow: x"]\n',
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_rooms_and_their_tests_come_from_the_tree(tree: Path) -> None:
    assert mutants.rooms_of(tree) == ["water"]
    assert mutants.tests_of(tree, "crema_core/water/pump.py") == ["tests/water/test_pump.py", "tests/water"]
    assert mutants.tests_of(tree, "crema_core/water/__init__.py") == ["tests/water"]
    assert mutants.tests_of(tree, "crema_core/air/wind.py") == ["tests/other/test_air.py"], "it imports the room"
    assert mutants.tests_of(tree, "crema_core/fire/wind.py") == ["tests"]


def test_the_draw_is_the_seeds_and_changes_what_runs(tree: Path) -> None:
    drawn = mutants.draw(tree, "water", sample=100, seed=0)
    assert drawn == mutants.draw(tree, "water", sample=100, seed=0)
    assert drawn != mutants.draw(tree, "water", sample=100, seed=1)
    assert len({(mutant.line, mutant.operator, mutant.occurrence) for mutant in drawn}) == len(drawn) > 5
    assert 5 not in {mutant.line for mutant in drawn}, "a docstring"
    assert mutants.draw(tree, "water", sample=3, seed=0) == drawn[:3]
    for mutant in drawn:
        changed = mutants.edited(SOURCE, mutant)
        assert changed is not None
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(SOURCE))
        assert "int | None" in changed, "an annotation runs as before"


def test_statements_and_keyword_arguments_are_left_out() -> None:
    found = {
        name: [mutants.edited(SOURCE, mutants.Mutant("", name, number, 1)) for number in range(3)]
        for name in ("statement", "keyword")
    }
    without = [SOURCE.replace("noted = []", "pass"), SOURCE.replace("noted.append(value)", "pass"), None]
    assert [own for own in found["statement"] if own is None or "pass" in own][-3:] == without
    assert found["keyword"] == [
        SOURCE.replace("key=abs, reverse=True", "reverse=True"),
        SOURCE.replace("key=abs, reverse=True", "key=abs,"),
        None,
    ]


@pytest.mark.slow
def test_mutants_are_judged_in_a_copy(tree: Path) -> None:
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    with mutants.Laboratory(tree) as laboratory:
        failing = laboratory.failing(["tests/water"])
        assert failing == ["tests/water/test_pump.py::test_that_is_wrong"]
        arguments = ["--deselect", failing[0], "tests/water"]
        occurrence = next(
            number
            for number in range(9)
            if (mutants.edited(SOURCE, mutants.Mutant("", "core/AddNot", number, 1)) or "").count("if not") == 1
        )
        path = "crema_core/water/pump.py"
        killed = laboratory.judge(mutants.Mutant(path, "core/AddNot", occurrence, 6), arguments, limit_s=60)
        survived = laboratory.judge(mutants.Mutant(path, "keyword", 0, 10), arguments, limit_s=60)
        folder = laboratory.folder
    assert not folder.exists()
    assert (killed.outcome, survived.outcome) == ("killed", "survived")
    assert killed.by == "tests/water/test_pump.py::test_a_value_below_is_lifted"
    assert "-    if value is None:\n+    if not value is None:" in killed.diff
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before
    table = mutants.table({"water": [killed, survived]})
    assert table.splitlines()[1:3] == [
        "room            mutants   killed  survived",
        "water                 2        1         1",
    ]
    assert "key=abs" in table
    assert "if not" not in table, "only survivors are shown"


@pytest.mark.slow
def test_a_mutant_that_never_ends_is_stopped(tree: Path) -> None:
    (tree / "tests/water/test_pump.py").write_text("import time\n\n\ndef test_it():\n    time.sleep(60)\n")
    with mutants.Laboratory(tree) as laboratory:
        verdict = laboratory.judge(
            mutants.Mutant("crema_core/water/pump.py", "keyword", 0, 10), ["tests/water"], limit_s=2
        )
    assert verdict.outcome == "timeout"


@pytest.mark.slow
def test_the_results_are_written_as_json(tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mutants, "ROOT", tree)
    monkeypatch.setattr(mutants, "PRELOADED", ())
    out = tmp_path / "found.json"
    assert mutants.main(["--room", "water", "--sample", "1", "--seed", "4", "--json", str(out)]) == 0
    (only,) = json.loads(out.read_text())["water"]
    assert only["outcome"] in ("killed", "survived", "timeout")
    assert only["mutant"]["path"] == "crema_core/water/pump.py"
