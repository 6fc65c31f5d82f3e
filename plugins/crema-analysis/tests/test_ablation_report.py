"""The page of an ablation holds what was found."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crema_analysis.ablation import Ablation, Cell, Variant
from crema_analysis.ablation_report import write_ablation
from crema_analysis.plots import change_plot
from crema_core.data.unusable import Unusable
from tests.support.pages import FOREIGN, require_harmless


def variant(label: str, what: str, modality: str, change: float) -> Variant:
    cells = tuple(
        Cell(name, 0.9 + change, 8, 0.5, 1.0, change, change - 0.05, change + 0.05) for name in ("<color>", "all")
    )
    return Variant(label, what, ("main", "wave"), modality, cells, 20.0)


WHOLE = variant("all modalities", "all", "", 0.0)
WITHOUT = variant("without wave", "leave-one-out", "wave", -0.6)
ALONE = variant("question alone", "growing", "", -0.8)


def test_a_page_names_the_modality_a_type_needs_and_embeds_both_heat_maps(tmp_path: Path) -> None:
    page = write_ablation(tmp_path / "out", Ablation((WHOLE, WITHOUT, ALONE), 8, 4)).read_text()
    assert "<td>&lt;color&gt;</td><td>wave</td>" in page
    assert "8 questions about 4 clips; all modalities (main, wave): 90.0% (50.0% to 100.0%)." in page
    assert page.count("data:image/png;base64,") == 2
    assert "<td>without wave</td><td>30.0 (50-100)</td><td>30.0 (50-100)</td><td>20</td>" in page
    assert page.count("<h2>") == 4
    assert json.loads((tmp_path / "out" / "ablation.json").read_text())["needed"] == {
        "<color>": ["wave"],
        "all": ["wave"],
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "ablation.html",
        "ablation.json",
        "accuracy.png",
        "change.png",
    }


def test_growing_sets_alone_have_no_change_picture(tmp_path: Path) -> None:
    page = write_ablation(tmp_path, Ablation((WHOLE, ALONE), 8, 4)).read_text()
    assert page.count("data:image/png;base64,") == 1
    assert not (tmp_path / "change.png").exists()
    assert "Which modality matters" not in page


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_losses_are_red_and_gains_blue() -> None:
    loss, gain = (pixels(change_plot({"a": {"all": change}})) for change in (-0.9, 0.9))
    assert (loss[..., 0] - loss[..., 2]).max() > 60
    assert (gain[..., 2] - gain[..., 0]).max() > 60


@pytest.mark.slow
def test_texts_of_others_are_no_markup_on_the_page(tmp_path: Path) -> None:
    def page(text: str) -> str:
        cells = tuple(Cell(name, 0.9, 8, 0.5, 1.0, -0.5, -0.6, -0.4) for name in (text, "all"))
        variants = tuple(
            Variant(text, what, (text, text), text, cells, 20.0) for what in ("all", "leave-one-out", "growing")
        )
        skipped = (Unusable(data=text, line=1, id=text, modality=text, source=text, reason=text, why="missing"),)
        found = Ablation(variants, 8, 4, left_out={text: text}, skipped=skipped)
        return write_ablation(tmp_path, found, title=text).read_text(encoding="utf-8")

    require_harmless(page, times=10, texts=FOREIGN[:4])
