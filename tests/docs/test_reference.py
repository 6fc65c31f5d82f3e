"""The reference pages are what the code says; every hook names who calls it."""

from __future__ import annotations

import dataclasses
import re
import runpy
from pathlib import Path

import pytest
import yaml

from crema_core.plugins import hookspecs, registry
from crema_core.plugins.groups import KINDS
from tests.support.packages import needs_names

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
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", prose)
    local = [target for target in targets if "://" not in target]
    found = [(page.parent / target).resolve() for target in local]
    assert [str(path) for path in found if not path.is_file() or not path.is_relative_to(DOCS.resolve())] == []


def test_every_script_beside_the_pages_is_run_by_make_docs() -> None:
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    names = re.search(r"for page in ([\w ]+); do \$\(BIN\)/python docs/\$\$page\.py", makefile)
    assert names is not None
    release = re.findall(r"\$\(BIN\)/python docs/(\w+)\.py", makefile)  # for the READMEs of a release
    assert sorted([*names[1].split(), *release]) == sorted(path.stem for path in DOCS.glob("*.py"))


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


def test_every_group_of_extensions_has_a_page() -> None:
    pages = {path.stem for path in (DOCS / "reference").glob("*.md")}
    groups = {kind.group.partition(".")[2] for kind in KINDS.values()} - {"modalities"}  # its page is spec.md
    assert groups - pages == set()


WITH_EXAMPLES = [
    pytest.param(name, marks=needs_names("modality", "touch") if name == "fusions" else ())
    for name in [*REFERENCE["SEAMS"], "hooks"]
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_complete_example_prints_what_the_page_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (prints,) = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with registry.temporary_registrations():
        exec(compile(code, f"{name}.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == prints


@pytest.mark.parametrize("name", REFERENCE["SEAMS"])
def test_every_field_of_a_declaration_is_described(name: str) -> None:
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    for thing in REFERENCE["SEAMS"][name].things:
        section = page.split(f"\n## {thing.__name__}\n")[1].split("\n## ")[0]
        fields = [own.name for own in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
        fields += [*getattr(thing, "model_fields", ()), *getattr(thing, "_fields", ())]
        assert [own for own in fields if f"`{own}`" not in section] == []
