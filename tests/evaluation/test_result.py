"""What a strategy says beside them is kept in the file and averaged by question type."""

from __future__ import annotations

import json
from pathlib import Path

from crema_core.evaluation.predictions import Prediction, PredictionFile
from crema_core.evaluation.result import mean_extras


def said(kind: str, **outputs: dict[str, float]) -> Prediction:
    return Prediction("a", kind, "?", "red", "red", True, ("main",), 3, extras=outputs)


def test_means_are_by_type_and_over_all_and_leave_out_who_says_nothing() -> None:
    rows = [
        said("side", weights={"stills": 0.5, "motion": 0.5}),
        said("color", weights={"stills": 0.75, "motion": 0.25}, gate={"open": 1.0}),
        said("", weights={"stills": 0.25, "motion": 0.75}),
        said("color", weights={"stills": 0.5, "motion": 0.5}),
        said("color"),
    ]
    assert mean_extras(rows) == {
        "weights": {
            "color": {"stills": 0.625, "motion": 0.375},
            "side": {"stills": 0.5, "motion": 0.5},
            "all": {"stills": 0.5, "motion": 0.5},
        },
        "gate": {"color": {"open": 1.0}, "all": {"open": 1.0}},
    }
    assert mean_extras([said("color")]) == {}


def test_a_prediction_has_outputs_in_the_file_only_where_there_are_some(tmp_path: Path) -> None:
    def of(name: str, weights: dict[str, float] | None) -> Prediction:
        extras = {} if weights is None else {"encoder_weights": weights}
        return Prediction(name, "color", "?", "red", "red", True, ("main",), 3, extras=extras)

    predictions = [of("a", {"stills": 0.75, "motion": 0.25}), of("b", None)]
    path = tmp_path / "answers.jsonl"
    with PredictionFile(path, {}) as file:
        for prediction in predictions:
            file.add(prediction)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["encoder_weights"] == {"stills": 0.75, "motion": 0.25}
    assert "encoder_weights" not in lines[1]
    assert PredictionFile(path, {}, resume=True).done == predictions
