"""The reference pages are what the code says; every hook names who calls it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from crema_core.plugins import hookspecs

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = runpy.run_path(str(DOCS / "reference.py"))


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    page = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert page == REFERENCE["PAGES"][name](), "run: python docs/reference.py"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []


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
