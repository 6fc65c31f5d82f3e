"""The page of tables of trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_analysis.cells import Measured, TableRow, TrainedTable
from crema_analysis.sweep_report import write_trained_tables
from tests.support.pages import FOREIGN, require_harmless


def cell(accuracy: float, **exited: int) -> Measured:
    return Measured(accuracy, {"color": accuracy}, 10, 30.0, 7, 2.0, exited)


def test_a_page_has_a_section_for_each_table_with_spread_exits_and_notes(tmp_path: Path) -> None:
    one = TrainedTable("fusion", (TableRow("<a>", {0: cell(0.5), 1: cell(0.7, wave=3)}),), ("Read it so.",))
    two = TrainedTable("mode", (TableRow("joint", {0: cell(0.5)}),))
    place = write_trained_tables(tmp_path, [one, two], name="both", title="Two", lead="Of the world.")
    page = place.read_text()
    assert place == tmp_path / "both.html"
    assert page.count('<img class="plot"') == 4
    assert "<td>&lt;a&gt;</td><td>60.0 ± 14.1</td><td>60.0 ± 14.1</td>" in page
    assert "<p>Read it so.</p>" in page
    assert "&lt;a&gt;, seed 1: wave after epoch 4." in page
    assert page.count("exited early") == 1
    assert [own["title"] for own in json.loads((tmp_path / "both.json").read_text())] == ["fusion", "mode"]


@pytest.mark.slow
def test_texts_of_others_are_no_markup_on_the_page(tmp_path: Path) -> None:
    def page(text: str) -> str:
        own = Measured(0.5, {text: 0.5, "other": 0.25}, 10, 4.0, 3, 1.0, {text: 1})
        found = TrainedTable(text, (TableRow(text, {0: own}),), (text,))
        return write_trained_tables(tmp_path, [found], name="t", title=text, lead=text).read_text(encoding="utf-8")

    require_harmless(page, times=7, texts=FOREIGN[:4])
