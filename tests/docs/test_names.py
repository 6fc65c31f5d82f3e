"""Modules, classes and files that pages name exist: a page must not outlive a move."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support.packages import needs

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("plugins/*/README.md"),
        *ROOT.glob("examples/*/*.md"),
    ]
)
OURS = ("crema_core", *sorted(path.parent.name for path in ROOT.glob("plugins/crema-*/crema_*/__init__.py")))
"""Other packages that pages name are invented there. A change log may name what is gone."""


def resolve(dotted: str) -> object:
    """Import a module, or a name in one; of a module that needs a program which is not here, return where it lies."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("crema_"):
                return importlib.util.find_spec(".".join(parts[:2]))
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


def dotted_names(page: Path) -> dict[str, list[str]]:
    """Return package of ours -> the dotted names of it that a page has."""
    found = sorted(set(re.findall(r"\bcrema_[a-z0-9]+(?:\.\w+)+", page.read_text(encoding="utf-8"))))
    named = {package: [name for name in found if name.partition(".")[0] == package] for package in OURS}
    return {package: names for package, names in named.items() if names}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id=f"{page.relative_to(ROOT).as_posix()}-{package}", marks=needs(package.replace("_", "-")))
        for page in PAGES
        for package, names in dotted_names(page).items()
    ],
)
def test_every_dotted_name_of_a_page_can_be_imported(names: list[str]) -> None:
    for dotted in names:
        assert resolve(dotted) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_of_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    beside = ROOT / "crema_core" if page.name == "how_it_works.md" else ROOT
    named = re.findall(r"`((?:crema_core|plugins|tests|docs|benchmarks|examples)/[\w./-]+)`", text)
    named += [f"{module.replace('.', '/')}.py" for module in re.findall(r"python -m (benchmarks\.\w+)", text)]
    missing = [name for name in named if not (beside / name).exists() and not (ROOT / name).exists()]
    assert [name for name in missing if "NAME" not in name] == []
