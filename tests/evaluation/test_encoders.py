"""Means of what each encoder says, and where it says most."""

from __future__ import annotations

import json
from pathlib import Path

from crema_core.evaluation.encoders import Said, mean_shares, strongest_clips
from crema_core.evaluation.predictions import Prediction, PredictionFile

SAID = [
    Said("side", "b.mp4", {"stills": 0.5, "motion": 0.5}),
    Said("color", "a.mp4", {"stills": 0.75, "motion": 0.25}),
    Said("", "c.mp4", {"stills": 0.25, "motion": 0.75}),
    Said("color", "b.mp4", {"stills": 0.5, "motion": 0.5}),
]


def test_means_are_by_type_and_over_all() -> None:
    assert mean_shares(SAID) == {
        "color": {"stills": 0.625, "motion": 0.375},
        "side": {"stills": 0.5, "motion": 0.5},
        "all": {"stills": 0.5, "motion": 0.5},
    }
    assert mean_shares([]) == {}


def test_every_clip_counts_once_among_the_strongest() -> None:
    assert strongest_clips(SAID, count=2) == {
        "stills": [("a.mp4", 0.75), ("b.mp4", 0.5)],
        "motion": [("c.mp4", 0.75), ("b.mp4", 0.5)],
    }


def test_a_prediction_has_weights_in_the_file_only_where_there_are_some(tmp_path: Path) -> None:
    def of(name: str, weights: dict[str, float] | None) -> Prediction:
        return Prediction(name, "color", "?", "red", "red", True, ("main",), 3, encoder_weights=weights)

    predictions = [of("a", {"stills": 0.75, "motion": 0.25}), of("b", None)]
    path = tmp_path / "answers.jsonl"
    with PredictionFile(path, {}) as file:
        for prediction in predictions:
            file.add(prediction)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["encoder_weights"] == {"stills": 0.75, "motion": 0.25}
    assert "encoder_weights" not in lines[1]
    assert PredictionFile(path, {}, resume=True).done == predictions
