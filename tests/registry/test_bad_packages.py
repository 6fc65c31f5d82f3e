"""`tests/plugins/README.md` counts the bad packages that are tried, and what becomes of each.

The page is made from `OUTCOMES`, from what the packages declare and from the faults of the kit's tests: after a change
run `python -m tests.registry.test_bad_packages`.
"""

from __future__ import annotations

import re
import tomllib

import pytest

from crema_core.testing.check import TIERS
from tests.examples.test_foreign_packages import BAD_IMPORTS
from tests.support.dummies import SOURCES
from tests.testing.bad_fusions import BAD
from tests.testing.faults import FAULTS

PAGE = SOURCES / "README.md"
ROOT = SOURCES.parents[1]
GOOD = ("dataset", "good", "parts")
"""Packages that are there to be found; `dataset` has wrong entry points beside a right one."""

OUTCOMES: dict[str, tuple[str, str]] = {
    "bad_calls": (
        "an error with modality, package, call, sample and file; a deep check of data reports it and goes on",
        "tests/data/test_modality_calls.py",
    ),
    "bad_contract": (
        "refused when used, with what the declaration says and what it must say",
        "tests/registry/test_lookup.py",
    ),
    "broken_import": ("listed as broken with its error; others are used as before", "tests/registry/test_listing.py"),
    "crashes": (
        "doctor and check report signal or exit code, found in another process; other verbs end",
        "tests/registry/test_fence.py",
    ),
    "duplicate_a": ("the bare name is refused with the choices; doctor reports it", "tests/registry/test_lookup.py"),
    "duplicate_b": ("the same", "tests/registry/test_lookup.py"),
    "exits": ("an error with the package's name; the program goes on", "tests/registry/test_fence.py"),
    "factory_exits": ("an error with the package's name when it is used", "tests/registry/test_fence.py"),
    "hangs": (
        "named after 5 s with how to switch it off; doctor and check end the import",
        "tests/registry/test_fence.py",
    ),
    "heavy_import": ("listed with a note that names torch", "tests/registry/test_listing.py"),
    "hook_exits": ("the hook is left out with a warning, or an error in strict mode", "tests/registry/test_fence.py"),
    "hook_typo": ("the hook is left out with the reason, and the nearest name", "tests/registry/test_hooks.py"),
    "prints": ("the text goes to standard error; a check fails and doctor names it", "tests/registry/test_fence.py"),
    "wrong_api": (
        "another major version is refused, a newer minor one used with a warning",
        "tests/registry/test_lookup.py",
    ),
}
"""Package -> what becomes of it, and where that is tested."""

WALK = {
    "it prints at import": "the text goes to standard error; a check fails, doctor names the package",
    "features change without a word": "a warning with both versions and the difference; an error in strict mode",
    "an option is renamed, without a migration": "refused with both versions, the old and the new name",
    "an option is renamed, with a migration": "equal answers, no message",
    "the modality is renamed": "refused with both versions, the new name and the version to install",
    "`prepare` ends the program": "an error with package, file and line; one finding of a deep check for all lines",
    "a second package provides the name": "doctor and fit name both; saved models know their own",
    "the package is removed": "what to install is said; the model opens without it; data files stay usable",
}
"""What happens to one package in `tests/examples/test_foreign_packages.py` beside imports that fail -> its outcome."""


def project(name: str) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((SOURCES / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def faults_of(name: str) -> int:
    """Return how many ways to fail a package has: its entry points, or what its option `fault` can be."""
    if name == "bad_calls":
        code = next((SOURCES / name).glob("*/modality.py")).read_text(encoding="utf-8")
        return len(set(re.findall(r'"((?:init|load_assets|prepare|collate|encode|example|show) [a-z0-9A-Z ]+)"', code)))
    groups = project(name)["entry-points"]
    assert isinstance(groups, dict)
    return sum(map(len, groups.values()))


def page() -> str:
    """Return the text of the page."""
    rows = [
        f"| `{name}` | {str(project(name)['description']).rstrip('.')} | {faults_of(name)} | {outcome} | `{test}` |"
        for name, (outcome, test) in OUTCOMES.items()
    ]
    total = sum(map(faults_of, OUTCOMES))
    kit = {tier: len(FAULTS[tier]) for tier in TIERS}
    walk = {
        **{f"at import: `{fault.splitlines()[-1]}`": f"reported: {said}" for fault, said in BAD_IMPORTS.values()},
        **WALK,
    }
    return "\n".join(
        [
            "# Bad packages",
            "",
            "<!-- Written by tests/registry/test_bad_packages.py. -->",
            "",
            f"{len(OUTCOMES)} broken distributions with {total} faults lie in this folder, beside {len(GOOD)} that are "
            f"found and used. The conformance kit is tried on {sum(kit.values())} faulty copies of a modality "
            f"({', '.join(f'{count} of {tier}' for tier, count in kit.items())}) and on {len(BAD)} faulty fusions, one "
            "for every check. One package goes through "
            f"{len(walk)} accidents from wheels in a fresh environment.",
            "",
            "| package | what it does | faults | outcome | test |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## In a fresh environment",
            "",
            "Three modalities, a data set, an encoder and a hook of a third party are installed as wheels, trained, "
            "shared, upgraded, broken and removed (`tests/examples/test_foreign_packages.py`). The others work as "
            "before at each step.",
            "",
            "| what happens to one of them | outcome |",
            "|---|---|",
            *(f"| {what} | {outcome} |" for what, outcome in walk.items()),
            "",
        ]
    )


def test_the_page_counts_what_is_tried() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), __doc__


def test_every_package_of_the_folder_has_an_outcome() -> None:
    assert sorted(path.parent.name for path in SOURCES.glob("*/pyproject.toml")) == sorted([*GOOD, *OUTCOMES])


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_test_that_is_named_installs_the_package(name: str) -> None:
    outcome, test = OUTCOMES[name]
    assert outcome
    assert name in (ROOT / test).read_text(encoding="utf-8")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
