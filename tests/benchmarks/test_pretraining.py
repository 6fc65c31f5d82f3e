"""The table of modalities trained alone: what its numbers are made of."""

from __future__ import annotations

from benchmarks.pretraining import Accuracy, accuracy_of, summary
from crema_core.evaluation.result import EvaluationResult


def test_questions_of_a_modality_are_weighed_by_their_number() -> None:
    by_type, counts = {"color": 1.0, "shape": 0.5, "hottest": 0.0}, {"color": 1, "shape": 3, "hottest": 8}
    result = EvaluationResult(0.2, by_type, counts, 12, ("video", "thermal"), None, 18.0, 1.0)
    assert accuracy_of(result, "video") == 0.625
    assert accuracy_of(result, "thermal") == 0.0


def test_rows_are_means_and_deviations_over_seeds_in_percent() -> None:
    runs = {
        "video": [Accuracy("video", 0.4, 0.9, None), Accuracy("video", 0.5, 0.9, None)],
        "video + touch, new": [Accuracy("video + touch, new", 0.3, 0.25, 0.2)],
    }
    assert summary(runs) == [
        {"row": "video", "overall": "45.0 +- 7.1", "own": "90.0 +- 0.0"},
        {"row": "video + touch, new", "overall": "30.0", "own": "25.0", "own without it": "20.0"},
    ]
