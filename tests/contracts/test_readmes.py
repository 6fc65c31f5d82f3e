"""READMEs of plugins, and the page of video, begin with an example and list the options as they are."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = runpy.run_path(str(ROOT / "docs" / "options.py"))
PAGES: tuple[Path, ...] = OPTIONS["PAGES"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_lists_the_options_as_they_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == OPTIONS["written"](text), "run: python docs/options.py"


def test_every_first_party_sense_has_its_options_listed_once() -> None:
    directory = json.loads((ROOT / "crema_core" / "plugins" / "directory.json").read_text(encoding="utf-8"))
    listed = [name for page in PAGES for name in OPTIONS["senses"](page.read_text(encoding="utf-8"))]
    assert sorted(listed) == sorted(directory)


def test_a_row_says_name_type_default_and_meaning() -> None:
    rows = OPTIONS["table"]("audio").splitlines()
    assert rows[:2] == ["| option | type | default | meaning |", "|---|---|---|---|"]
    assert (
        rows[5]
        == "| `window_s` | `float >= 0.16` | `5.12` | length of a window in seconds, a multiple of 0.16 s is used |"
    )
    assert "| `placement` | `'spread'` or `'first'` | `'spread'` | " in rows[8]
    assert "| `start_s` | `float >= 0` or `None` | `None` | " in rows[9]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_begins_with_an_example_of_three_lines(page: Path) -> None:
    example = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    compile(example, str(page), "exec")
    assert len([line for line in example.splitlines() if line]) == 3
