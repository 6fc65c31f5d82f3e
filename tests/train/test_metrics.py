import json
from pathlib import Path

import pytest
import torch

from crema_core.train.metrics import MetricsFile, read_metrics


def test_lines_are_read_back_as_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write("step", {"step": 1, "loss": 0.1})
    metrics.write("exit", {"step": 2, "modality": "radar"})
    assert read_metrics(metrics.path) == [
        {"kind": "step", "step": 1, "loss": 0.1},
        {"kind": "exit", "step": 2, "modality": "radar"},
    ]


def test_a_tensor_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="loss is Tensor, not a number or a text"):
        MetricsFile(tmp_path / "metrics.jsonl").write("step", {"loss": torch.tensor(1.0)})  # type: ignore[dict-item]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).write("step", {"step": 1})
    with path.open("a") as file:
        file.write('{"kind": "st')
    assert read_metrics(path) == [{"kind": "step", "step": 1}]


def test_lines_after_a_checkpoint_are_dropped(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write("step", {"step": 1})
    size = metrics.num_bytes
    metrics.write("step", {"step": 2})
    metrics.truncate(size)
    assert read_metrics(metrics.path) == [{"kind": "step", "step": 1}]


def test_infinities_are_texts_because_json_has_none(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write("step", {"grad_norm/radar": float("inf")})
    assert json.loads(metrics.path.read_text()) == {"kind": "step", "grad_norm/radar": "inf"}
