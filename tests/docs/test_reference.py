"""The reference pages are what the code says; every hook names who calls it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from crema_core.plugins import hookspecs

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = runpy.run_path(str(DOCS / "reference.py"))


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    page = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert page == REFERENCE["PAGES"][name](), "run: python docs/reference.py"


def test_the_navigation_has_every_page_once_and_no_other() -> None:
    settings = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    parts = [part for entry in settings["nav"] for part in entry.values()]
    listed = [page for part in parts for page in ([part] if isinstance(part, str) else _pages(part))]
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def _pages(entries: list[dict[str, str]]) -> list[str]:
    return [page for entry in entries for page in entry.values()]


def test_the_overview_leads_to_every_page() -> None:
    overview = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert sorted(page for page in pages if f"]({page})" not in overview) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_a_link_to_another_page_has_a_target(page: Path) -> None:
    """`mkdocs build --strict` refuses the others, and pages outside the folder too."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    found = [(page.parent / target).resolve() for target in local]
    assert [str(path) for path in found if not path.is_file() or not path.is_relative_to(DOCS.resolve())] == []


def test_every_script_beside_the_pages_is_run_by_make_docs() -> None:
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    names = re.search(r"for page in ([\w ]+); do \$\(BIN\)/python docs/\$\$page\.py", makefile)
    assert names is not None
    assert sorted(names[1].split()) == sorted(path.stem for path in DOCS.glob("*.py"))


def test_every_hook_says_who_calls_it() -> None:
    events = {name for name in vars(hookspecs) if name.startswith("crema_")}
    assert REFERENCE["PROCESSES"].keys() == events


def test_every_argument_of_a_hook_is_described() -> None:
    page = REFERENCE["hooks_page"]()
    for name, event in vars(hookspecs).items():
        if name.startswith("crema_"):
            section = page.split(f"## {name}(")[1].split("\n## ")[0]
            arguments = event.__code__.co_varnames[: event.__code__.co_argcount]
            assert [argument for argument in arguments if f"- `{argument}`: " not in section] == []
