"""Every check accepts the specimen, and finds its own fault and no other."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crema_core.plugins import registry
from crema_core.testing import Report, check_modality
from crema_core.testing.check import CHECKED_KINDS, TIERS, Tier, checks_up_to
from tests.testing.faults import CODE, CODE_TOP, FAULTS, PACKAGE, SPEC, VALUES, Edit, on_top, write_specimen

Check = Callable[[str, tuple[Edit, ...], Tier], Report]
CASES = [(tier, name) for tier in TIERS for name in FAULTS[tier]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """Installs the specimen with some edits for one test, and checks it."""
    environment = dict(os.environ)

    def install(name: str, edits: tuple[Edit, ...], tier: Tier) -> Report:
        place = write_specimen(tmp_path / name, name, edits)
        monkeypatch.syspath_prepend(str(place))
        registry.refresh()
        here = [one for one in registry.providers("modality") if one.entry and one.entry.location == str(place)]
        (modality,) = [one.name for one in here]
        return check_modality(modality, tier=tier)

    yield install
    monkeypatch.undo()
    for key in set(os.environ) - set(environment):
        del os.environ[key]
    for module in [module for module in sys.modules if module.startswith(PACKAGE)]:
        del sys.modules[module]
    registry.refresh()


@pytest.mark.slow
def test_the_specimen_reaches_gold(check: Check) -> None:
    report = check("whole", (), "gold")
    assert [result for result in report.results if result.status != "passed"] == []
    assert report.tier == "gold"


@pytest.mark.slow  # the whole kit runs for every fault
@pytest.mark.parametrize(("tier", "name"), CASES, ids=[name for _, name in CASES])
def test_a_fault_is_found_by_its_check_and_by_no_other(check: Check, tier: Tier, name: str) -> None:
    report = check(name, FAULTS[tier][name], tier)
    assert [(result.check, result.message) for result in report.findings if result.check != name] == []
    assert report.of(name).status == "failed"
    assert report.tier != tier


@pytest.mark.slow
def test_large_features_may_be_rounded_by_as_much_more(check: Check) -> None:
    rounded = f"{VALUES} * 1e4\n        values = values * (1 + 5e-7 * (len(values) > 1))"
    report = check("large", (Edit(CODE, VALUES, rounded),), "silver")
    assert report.of("features_ignore_the_other_samples").status == "passed"


READS_ALL = """        if isinstance(source, str | Path) and Path(source).is_file():
            if Path(source).suffix != ".pt" or (REFUSED):
                raise MediaError(f"{source} holds no byte. A recording has some. Write it again.")
            source = torch.ones(2, 3)
        if isinstance(source, str | Path):"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("declared", "refused", "status"),
    [
        ("any_bytes=True", "Path(source).stat().st_size == 0", "passed"),
        ("any_bytes=True", "False", "failed"),
        ("any_bytes=False", "Path(source).stat().st_size == 0", "failed"),
    ],
)
def test_where_every_content_is_legal_empty_files_and_other_endings_are_refused(
    check: Check, declared: str, refused: str, status: str
) -> None:
    declare = Edit(SPEC, 'description="(T, 3) float"', f'description="(T, 3) float", {declared}')
    read = Edit(CODE, "        if isinstance(source, str | Path):", READS_ALL.replace("REFUSED", refused))
    report = check("raw", (declare, read), "silver")
    assert report.of("damaged_files_are_refused").status == status


def test_a_reader_that_crashes_on_a_cut_file_is_reported_with_the_check_and_the_file(check: Check) -> None:
    read = """        if isinstance(source, str | Path) and Path(source).is_file():
            if "cut50" in str(source):
                os.abort()
            raise MediaError(f"{source} is damaged. A recording is whole. Write it again.")
        if isinstance(source, str | Path):"""
    crash = Edit(CODE, "        if isinstance(source, str | Path):", read)
    report = check("crash", (on_top(CODE_TOP, "import os"), crash), "silver")
    assert [found.check for found in report.findings] == ["damaged_files_are_refused"]
    assert report.findings[0].message.startswith(
        "prepare() of a .pt file cut off after 50% gives no sample and no error: it ended the process with signal "
        "SIGABRT.\n"
    )


@pytest.mark.slow  # a process with torch
def test_a_modality_that_crashes_elsewhere_leaves_the_check_and_its_line_on_standard_error(tmp_path: Path) -> None:
    crash = (on_top(CODE_TOP, "import os"), Edit(CODE, f"        {VALUES}", f"        os.abort()\n        {VALUES}"))
    place = write_specimen(tmp_path / "crash", "crash", crash)
    command = [sys.executable, "-m", "crema_core.cli.main", "plugins", "check", "specimen", "--tier", "silver"]
    path = os.pathsep.join([str(place), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT
    assert re.search(rf'{PACKAGE}\w*/modality\.py", line \d+ in \w+$', done.stderr, flags=re.MULTILINE), done.stderr
    assert re.search(r'checks/alone\.py", line \d+ in running_is_offline$', done.stderr, flags=re.MULTILINE)


def test_every_check_has_a_fault_and_the_number_of_checks_is_pinned() -> None:
    assert {tier: len(FAULTS[tier]) for tier in TIERS} == {"bronze": 17, "silver": 23, "gold": 7}
    assert [(found.tier, found.name) for found in checks_up_to("gold")] == sorted(
        CASES, key=lambda case: [(found.tier, found.name) for found in checks_up_to("gold")].index(case)
    )


@pytest.mark.parametrize("name", ["declared", "alone", "in_model", "fusion"])
def test_every_function_that_looks_at_a_plugin_is_declared_as_a_check(name: str) -> None:
    module = importlib.import_module(f"crema_core.testing.checks.{name}")
    functions = [own for own in vars(module).values() if inspect.isfunction(own) and own.__module__ == module.__name__]
    written = [
        own.__name__
        for own in functions
        if list(inspect.signature(own).parameters) == ["under_test"]
        and inspect.signature(own).return_annotation == "None"
    ]
    every = {own.name: own for kind in CHECKED_KINDS for own in checks_up_to("gold", kind=kind) if own.module == name}
    assert sorted(written) == sorted(every)
    known = {own.name for kind in CHECKED_KINDS for own in checks_up_to("gold", kind=kind)}
    assert {needed for own in every.values() for needed in own.needs} <= known


@pytest.mark.parametrize("found", checks_up_to("gold"), ids=lambda found: found.name)
def test_a_check_says_what_it_looks_at_why_and_how_to_repair(found: object) -> None:
    text = found.documentation
    first, *rest = text.split("\n\n", maxsplit=1)
    assert first.endswith(".")
    assert [line.partition(":")[0] for line in rest[0].splitlines() if line.startswith(("Why:", "Fix:"))] == [
        "Why",
        "Fix",
    ]
