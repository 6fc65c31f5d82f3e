"""The section about encoders in a report."""

from __future__ import annotations

import pytest

from crema_core.report.html import page
from crema_merv.report import encoder_sections
from tests.support.pages import FOREIGN, require_harmless

LINES = [
    {"type": "color", "clip": "a.mp4", "encoder_weights": {"stills": 0.75, "motion": 0.25}},
    {"type": "side", "clip": "b.mp4", "encoder_weights": {"stills": 0.4, "motion": 0.6}},
]


def test_a_report_shows_shares_by_type_and_clips_by_encoder() -> None:
    (section,) = encoder_sections(LINES)
    assert section.title == "Contribution of each encoder"
    assert "data:image/png;base64," in section.html
    assert "<td>stills</td><td>a.mp4 (75%), b.mp4 (40%)</td>" in section.html
    assert "<td>motion</td><td>b.mp4 (60%), a.mp4 (25%)</td>" in section.html


def test_without_weights_there_is_no_section() -> None:
    assert encoder_sections([{"type": "color", "clip": "a.mp4"}]) == []


@pytest.mark.slow
def test_texts_of_others_are_no_markup_on_the_page() -> None:
    def whole(text: str) -> str:
        line = {"type": text, "clip": text, "encoder_weights": {text: 0.75, "other": 0.25}}
        return page(text, text, encoder_sections([line]))

    require_harmless(whole, times=5, texts=FOREIGN[:4])
