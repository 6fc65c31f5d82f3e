"""Pictures of attention and gate show what they are given."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_analysis.maps import GateMap, Maps, ModalityMap
from crema_analysis.maps_report import gate_picture, maps_section, modality_picture
from crema_core.report.html import page
from tests.support.pages import FOREIGN, require_harmless


def looking_at(corner: int, *, steps: int = 2) -> ModalityMap:
    weights = torch.zeros(1, steps, 3, 5)
    weights[..., 1 + corner] = 1.0
    return ModalityMap(weights, torch.full((steps, 3, 16, 16), 0.5), (2, 2), None)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_heat_lies_where_the_queries_look() -> None:
    first, last = (pixels(modality_picture("main", looking_at(corner))) for corner in (0, 3))
    assert first.shape == last.shape
    # The map has its brightest colour, far from grey, in the corner looked at: above left, or below right.
    places = []
    for image in (first, last):
        rows, columns = np.nonzero((image[..., 0] > 180) & (image[..., 2] < 160))
        half = image[:, : image.shape[1] // 2]
        inside = columns < half.shape[1]
        places.append((rows[inside].mean(), columns[inside].mean()))
    assert places[0][0] < places[1][0]
    assert places[0][1] < places[1][1]


@pytest.mark.slow
def test_many_frames_are_thinned_out_and_a_modality_without_pictures_is_drawn_as_strips() -> None:
    assert (
        pixels(modality_picture("main", looking_at(0, steps=40))).shape
        == pixels(modality_picture("main", looking_at(0, steps=8))).shape
    )
    strip = ModalityMap(torch.rand(2, 3, 4, 30).softmax(-1), None, None, torch.tensor([[0.0, 1], [1, 2], [2, 3]]))
    assert (pixels(modality_picture("wave", strip, layer=1)) < 128).any()


def test_a_wider_gate_is_a_taller_bar() -> None:
    def blue(value: float) -> int:
        image = pixels(gate_picture(GateMap(torch.full((3, 4), value), {})))
        return int(((image[..., 2] > 150) & (image[..., 0] < 60)).sum())

    assert blue(0.8) > 3 * blue(0.2) > 0


def test_a_section_writes_a_picture_per_modality_and_one_of_the_gate(tmp_path: Path) -> None:
    shares = {"wave": torch.tensor([0.3, 0.4]), "points": torch.tensor([0.7, 0.6])}
    found = Maps("where <is> it?", "left", {"main": looking_at(0)}, GateMap(torch.full((2, 3), 0.5), shares))
    section = maps_section("test.jsonl:3", found, tmp_path / "a", layer=0)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"main.png", "gate.png"}
    assert section.html.count("data:image/png;base64,") == 2
    assert "where &lt;is&gt; it?  Answer: left" in section.html
    assert "patches of its frames, mean of heads, queries and cross-attention layer 0" in section.html
    alone = maps_section("x", Maps("?", "left", {"main": looking_at(0)}, None), tmp_path / "b")
    assert "Nothing was fused" in alone.html


@pytest.mark.slow
def test_texts_of_others_are_no_markup_on_the_page(tmp_path: Path) -> None:
    def whole(text: str) -> str:
        found = Maps(text, text, {"main": looking_at(0)}, GateMap(torch.full((2, 3), 0.5), {}))
        return page(text, text, [maps_section(text, found, tmp_path)])

    require_harmless(whole, times=6, texts=FOREIGN[:4])
