"""READMEs of plugins, and the page of video, begin with an example and list the options as they are."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from crema_core.plugins import registry
from crema_core.plugins.spec import ModalityOptions
from crema_core.video.options import BACKBONE
from tests.support.modalities import wave_spec
from tests.support.packages import needs_names

ROOT = Path(__file__).parents[2]
OPTIONS = runpy.run_path(str(ROOT / "docs" / "options.py"))
SEEING = ("thermal", "touch", "video")
PAGES: tuple[Path, ...] = OPTIONS["PAGES"]


def listed(page: Path) -> list[str]:
    """Return the modalities whose options a page lists."""
    names: list[str] = OPTIONS["modalities"](page.read_text(encoding="utf-8"))
    return names


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=needs_names("modality", *(listed(page) or ["video"])), id=str(page.relative_to(ROOT)))
        for page in PAGES
    ],
)
def test_a_page_lists_the_options_as_they_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == OPTIONS["written"](text), "run: python docs/options.py"


def test_every_first_party_modality_has_its_options_listed_once() -> None:
    directory = json.loads((ROOT / "crema_core" / "plugins" / "directory.json").read_text(encoding="utf-8"))
    assert sorted(name for page in PAGES for name in listed(page)) == sorted(directory["modality"])


class SonarOptions(ModalityOptions):
    window_s: float = Field(default=5.12, ge=0.16, description="length of a window in seconds")
    placement: Literal["spread", "first"] = Field(default="spread", description="where windows lie")
    start_s: float | None = Field(default=None, ge=0, description="begin | of the part")


def test_a_row_says_name_type_default_and_meaning() -> None:
    registry.register(wave_spec("sonar", options=SonarOptions))
    assert OPTIONS["table"]("sonar").splitlines() == [
        "| option | type | default | meaning |",
        "|---|---|---|---|",
        "| `window_s` | `float >= 0.16` | `5.12` | length of a window in seconds |",
        "| `placement` | `'spread'` or `'first'` | `'spread'` | where windows lie |",
        "| `start_s` | `float >= 0` or `None` | `None` | begin &#124; of the part |",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_begins_with_an_example_of_three_lines(page: Path) -> None:
    example = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    compile(example, str(page), "exec")
    assert len([line for line in example.splitlines() if line]) == 3


OF_MODALITIES = tuple(page for page in PAGES if listed(page))
"""Pages of packages that add modalities; those of strategies list options of their own."""


def tables_of_encoders(page: Path) -> list[list[str]]:
    """Return the lines of every table with a measured speed."""
    blocks = page.read_text(encoding="utf-8").split("\n\n")
    return [block.splitlines() for block in blocks if block.startswith("| e") and "CPU seconds" in block]


@pytest.mark.parametrize("page", OF_MODALITIES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_a_table_of_encoders_with_licence_width_and_measured_speed(page: Path) -> None:
    tables = tables_of_encoders(page)
    heads = [table[0] for table in tables]
    assert any("width" in head and "token" in head and "licence" in head for head in heads)
    for table in tables:
        columns = [name.strip() for name in table[0].strip("|").split("|")]
        for row in table[2:]:
            cells = dict(zip(columns, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
            assert all(cells.values()), row
            assert cells["CPU seconds"].startswith("not ") or any(sign.isdigit() for sign in cells["CPU seconds"]), row


def test_pages_of_modalities_that_see_have_one_table_of_encoders() -> None:
    pages = [ROOT / "docs" / "video.md", *(ROOT / "plugins" / f"crema-{name}" / "README.md" for name in SEEING)]
    first, *others = (tables_of_encoders(page)[0] for page in pages)
    assert all(other == first for other in others)
    named = {line.split("`")[1] for line in first[2:]}
    assert named == {BACKBONE, *registry.known_packages("encoder")}
