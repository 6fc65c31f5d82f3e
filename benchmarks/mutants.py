"""What the tests notice: small wrong edits of the product, one at a time, each against the tests of its room.

    python -m pip install -e '.[mutation]'
    python -m benchmarks.mutants --room fusion --sample 20 --seed 0

A room is a folder of `crema_core`. The edits come from cosmic-ray's operators (another sign, comparison, number, truth
value, an absent loop or decorator) and from two of our own, a statement and a keyword argument left out. Places are
drawn with the seed, one edit at each; edits of annotations and docstrings run as the original does and are not drawn.
A mutant is killed when a test fails or the time limit passes. What survives is a hole in the tests, or is equivalent:
the table's diffs are for the reader who decides.

Everything happens in a copy of the tree in a temporary folder, never in the checkout. Every mutant runs in a process
forked from one that has imported torch and transformers, which saves ten seconds each; so this needs a POSIX system.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import difflib
import importlib
import json
import math
import os
import py_compile
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import parso
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

ROOT = Path(__file__).parent.parent
PACKAGE = "crema_core"
ROOMS = ("fusion", "model", "train", "data", "saving", "io")
"""Rooms asked for by default, as far as the tree has them."""
PRELOADED = ("torch", "transformers", "peft", "accelerate", "av", "PIL.Image", "safetensors.torch", "hypothesis")
LIMIT_S = 300.0
NOT_COPIED = (".git", ".venv", "build", "dist", "runs", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")


@dataclass(frozen=True)
class Mutant:
    """One wrong edit.

    Attributes:
        path: of the edited file, from the root of the tree.
        operator: its name.
        occurrence: which of the file's places for this operator.
        line: where, from 1.
    """

    path: str
    operator: str
    occurrence: int
    line: int


@dataclass(frozen=True)
class Verdict:
    """What the tests said about a mutant.

    Attributes:
        mutant: the edit.
        outcome: "killed", "timeout" (counted as killed) or "survived".
        seconds: the tests took.
        diff: the edit as a unified diff.
        by: the test that failed first, empty when none did.
    """

    mutant: Mutant
    outcome: str
    seconds: float
    diff: str
    by: str


class StatementRemover(Operator):
    """Leaves out a call or an assignment."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the statement's place."""
        if node.type == "simple_stmt" and node.children[0].type in ("expr_stmt", "atom_expr"):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Put `pass` in its place."""
        prefix = node.get_first_leaf().prefix
        node.children[0] = parso.python.tree.Keyword("pass", node.start_pos, prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """None: cosmic-ray's own tests read them."""
        return ()


class KeywordRemover(Operator):
    """Leaves out one keyword argument of a call, so that its default holds."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the place of each keyword argument."""
        for child in self._keywords(node):
            yield child.start_pos, child.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Take the argument and the comma behind it away."""
        place = node.children.index(self._keywords(node)[index])
        del node.children[place : place + 2]
        return node

    @staticmethod
    def _keywords(node: Any) -> list[Any]:
        children = node.children if node.type == "arglist" else []
        return [child for child in children if child.type == "argument" and child.children[1] == "="]

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """None: cosmic-ray's own tests read them."""
        return ()


def operators() -> dict[str, Operator]:
    """Return every operator that needs no argument, by name."""
    classes = {name: plugins.get_operator(name) for name in plugins.operator_names()}
    found = {name: one() for name, one in classes.items() if not one.arguments()}
    return found | {"statement": StatementRemover(), "keyword": KeywordRemover()}


def rooms_of(root: Path) -> list[str]:
    """Return the folders of the package that hold code."""
    return sorted(path.name for path in (root / PACKAGE).iterdir() if path.is_dir() and any(path.glob("*.py")))


def tests_of(root: Path, path: str) -> list[str]:
    """Return the tests for a file, as pytest takes them, those most likely to fail first.

    They are the test file that mirrors it, then the folder of its room, or where that is missing the test files that
    import the room, or all tests.
    """
    room = Path(path).parts[1]
    folder = root / "tests" / room
    mirrors = sorted((root / "tests").rglob(f"test_{Path(path).stem}.py"))
    mirror = [own for own in mirrors if room in own.relative_to(root / "tests").parts[:1]] or (
        mirrors if not folder.is_dir() else []
    )
    if folder.is_dir():
        rest = [folder]
    else:
        imported = re.compile(rf"\b{PACKAGE}\.{room}\b")
        rest = [one for one in sorted((root / "tests").rglob("test_*.py")) if imported.search(one.read_text("utf-8"))]
    return [str(own.relative_to(root)) for own in dict.fromkeys([*mirror, *(rest or [root / "tests"])])]


def draw(root: Path, room: str, *, sample: int, seed: int) -> list[Mutant]:
    """Return `sample` mutants of a room, at places drawn with `seed`; fewer when it has fewer places."""
    available = operators()
    places: dict[tuple[str, Any], list[Mutant]] = {}
    for file in sorted((root / PACKAGE / room).rglob("*.py")):
        path, counts = str(file.relative_to(root)), dict.fromkeys(available, 0)
        for node in ast_nodes(parso.parse(file.read_text("utf-8"))):
            for name, operator in available.items():
                for start, _ in operator.mutation_positions(node):
                    places.setdefault((path, start), []).append(Mutant(path, name, counts[name], start[0]))
                    counts[name] += 1
    generator = random.Random(f"{seed} {room}")
    order = sorted(places)
    generator.shuffle(order)
    drawn: list[Mutant] = []
    for place in order:
        if len(drawn) == sample:
            break
        chosen = generator.choice(places[place])
        text = (root / chosen.path).read_text("utf-8")
        changed = edited(text, chosen)
        if changed is not None and _what_runs(changed) not in (None, _what_runs(text)):
            drawn.append(chosen)
    return drawn


def edited(text: str, mutant: Mutant) -> str | None:
    """Return a file's text with the edit, None when it has no such place."""
    changed: str | None = mutate_code(text, operators()[mutant.operator], mutant.occurrence)
    return changed


def _what_runs(text: str) -> str | None:
    """Return the code without annotations of arguments and docstrings, None when it is not Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name | ast.Attribute):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


class Laboratory:
    """A copy of the tree in which mutants are tried; a context manager that removes it.

    Args:
        root: the tree.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> Laboratory:
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        self.tree = self.folder / "tree"
        shutil.copytree(self.root, self.tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        # Compiled once, and told apart by content: an edit within the same second must not run the old code.
        checked = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.tree / PACKAGE, quiet=2, invalidation_mode=checked)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def failing(self, tests: Sequence[str]) -> list[str]:
        """Return the tests that fail without any edit, which can say nothing about one."""
        self._run(tests, limit_s=math.inf)
        return self._failed()

    def judge(self, mutant: Mutant, arguments: Sequence[str], *, limit_s: float) -> Verdict:
        """Run pytest with one edit in the copy, and take the edit back."""
        place = self.tree / mutant.path
        text = place.read_text("utf-8")
        changed = edited(text, mutant)
        assert changed is not None, "it was drawn from this file"
        diff = difflib.unified_diff(text.splitlines(), changed.splitlines(), mutant.path, mutant.path, "", "", 1, "")
        try:
            place.write_text(changed, "utf-8")
            outcome, seconds = self._run(["-x", *arguments], limit_s=limit_s)
        finally:
            place.write_text(text, "utf-8")
        by = next(iter(self._failed()), "") if outcome == "killed" else ""
        return Verdict(mutant, outcome, round(seconds, 1), "\n".join(diff), by)

    def _failed(self) -> list[str]:
        output = (self.folder / "output.txt").read_text("utf-8", errors="replace")
        return re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)

    def _run(self, arguments: Sequence[str], *, limit_s: float) -> tuple[str, float]:
        shutil.rmtree(self.folder / "pytest", ignore_errors=True)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(self._child(arguments))  # never back into the caller's code
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            seconds = time.monotonic() - started
            if ended:
                outcome = "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
                return outcome, seconds
            if seconds > limit_s:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "timeout", seconds
            time.sleep(0.05)

    def _child(self, arguments: Sequence[str]) -> int:
        try:
            os.setsid()  # processes the tests start end with it
            output = os.open(self.folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115  # as a test run may have replaced them
            os.chdir(self.tree)
            os.environ["PYTHONPATH"] = str(self.tree)
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(self.tree))
            for name in [own for own in sys.modules if own.split(".")[0] in (PACKAGE, "benchmarks", "tests")]:
                del sys.modules[name]
            import pytest

            base = f"--basetemp={self.folder / 'pytest'}"
            code = int(pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", base, *arguments]))
            sys.stdout.flush()
            return code
        except BaseException:  # noqa: BLE001  # a child that fails in any way must not continue as its parent
            return 70


def main(argv: Sequence[str] | None = None) -> int:
    """Try mutants and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description="What the tests notice.")
    known = rooms_of(ROOT)
    parser.add_argument("--room", action="append", choices=known, help="a folder of the package; may be repeated")
    parser.add_argument("--sample", type=int, default=20, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="time limit of one mutant, seconds")
    parser.add_argument("--json", type=Path, help="file for all results")
    given = parser.parse_args(argv)
    prepare()
    verdicts: dict[str, list[Verdict]] = {}
    with Laboratory(ROOT) as laboratory:
        for room in given.room or [room for room in ROOMS if room in known]:
            drawn = draw(ROOT, room, sample=given.sample, seed=given.seed)
            tests = tests_of(ROOT, f"{PACKAGE}/{room}/__init__.py")
            failing = laboratory.failing(tests)
            for test in failing:
                print(f"{room}: {test} fails without any edit and is left out", flush=True)
            without = [argument for test in failing for argument in ("--deselect", test)]
            verdicts[room] = []
            for number, mutant in enumerate(drawn, start=1):
                arguments = [*without, *tests_of(ROOT, mutant.path)]
                verdict = laboratory.judge(mutant, arguments, limit_s=given.limit_s)
                verdicts[room].append(verdict)
                where = f"{mutant.path}:{mutant.line} {mutant.operator}"
                print(f"{room} {number}/{len(drawn)} {verdict.outcome} {verdict.seconds:.0f} s  {where}", flush=True)
    print(table(verdicts))
    if given.json is not None:
        data = {room: [asdict(verdict) for verdict in found] for room, found in verdicts.items()}
        given.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0


def prepare() -> None:
    """Import what every mutant's process needs, with the settings the tests have."""
    for variable, value in {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}.items():
        os.environ.setdefault(variable, value)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in PRELOADED:
        importlib.import_module(name)


def table(verdicts: dict[str, list[Verdict]]) -> str:
    """Return killed and survived by room, then the survivors' diffs."""
    lines = ["", f"{'room':<14}{'mutants':>9}{'killed':>9}{'survived':>10}"]
    for room, found in verdicts.items():
        survived = sum(verdict.outcome == "survived" for verdict in found)
        lines.append(f"{room:<14}{len(found):>9}{len(found) - survived:>9}{survived:>10}")
    for found in verdicts.values():
        lines += ["\n" + verdict.diff for verdict in found if verdict.outcome == "survived"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
