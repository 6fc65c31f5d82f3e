"""Means of what each encoder says, and where it contributes most."""

from __future__ import annotations

from crema_merv.weights import Said, mean_weights, strongest_clips

SAID = [
    Said("side", "b.mp4", {"stills": 0.5, "motion": 0.5}),
    Said("color", "a.mp4", {"stills": 0.75, "motion": 0.25}),
    Said("", "c.mp4", {"stills": 0.25, "motion": 0.75}),
    Said("color", "b.mp4", {"stills": 0.5, "motion": 0.5}),
]


def test_means_are_by_type_and_over_all() -> None:
    assert mean_weights(SAID) == {
        "color": {"stills": 0.625, "motion": 0.375},
        "side": {"stills": 0.5, "motion": 0.5},
        "all": {"stills": 0.5, "motion": 0.5},
    }
    assert mean_weights([]) == {}


def test_every_clip_counts_once_among_the_strongest() -> None:
    assert strongest_clips(SAID, count=2) == {
        "stills": [("a.mp4", 0.75), ("b.mp4", 0.5)],
        "motion": [("c.mp4", 0.75), ("b.mp4", 0.5)],
    }
