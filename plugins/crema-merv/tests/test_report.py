"""The section about encoders in a report."""

from __future__ import annotations

from crema_merv.report import encoder_sections

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
