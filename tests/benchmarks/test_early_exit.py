"""The benchmark of early exit: what it says of a run, on written metrics and on a very small training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.early_exit import RULES, learned, main, own_accuracy, replay, trained_row
from benchmarks.table_jobs import NAMES
from crema_core.train.settings import TrainSettings

FLOW = [25, 25, 30, 96, 97, 98, 97, 98, 98, 98]  # discovered in the epoch with index 3
NORMS = [1.0, 1.0, 4.0, 8.0, 4.0, 4.0, 5.5, 2.0, 2.0, 2.0]


def run(num_epochs: int = 10, exited: int | None = None) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for epoch in range(num_epochs):
        active = [name for name in NAMES if name != "flow" or exited is None or epoch <= exited]
        losses = {f"loss/{name}": 1.0 for name in active}
        norms = {f"grad_norm/{name}": NORMS[epoch] if name == "flow" else 1 / (1 + epoch) for name in active}
        lines.append(
            {"kind": "epoch", "epoch": epoch, **norms, **losses, **{f"sub_steps/{name}": 5 for name in active}}
        )
        own = {f"accuracy/{kind}": 1.0 for kind in ("color", "shape", "first_sound", "nearest")}
        lines.append({"kind": "valid", "epoch": epoch, "accuracy": 0.9, "accuracy/motion": FLOW[epoch] / 100, **own})
    return lines + ([] if exited is None else [{"kind": "exit", "epoch": exited, "modality": "flow"}])


def test_a_modality_has_learned_when_its_own_questions_stay_near_their_end() -> None:
    assert own_accuracy(run(), "flow") == pytest.approx(FLOW)
    assert learned(run(), "flow") == 3
    assert learned(run(), "video") == 0


def test_a_stop_before_that_is_a_stop_at_chance_and_sub_steps_are_counted() -> None:
    early, late = (trained_row(run(exited=epoch), run(), rule="default", seed=0, epochs=10) for epoch in (2, 6))
    assert (early["at chance"], late["at chance"]) == ("flow", "")
    assert (early["flow stops"], late["flow stops"], late["video stops"]) == (2, 6, 10)
    assert late["saved %"] == pytest.approx(100 * 3 / 40, abs=0.05), "flow misses three epochs of forty"
    assert late["accuracy %"] == 90.0


def test_a_replayed_rule_stops_where_a_training_would() -> None:
    for settings, epoch in (
        ({"early_exit": 0.85, "early_exit_start_epoch": 1, "early_exit_patience": 3}, 6),  # 5.5 > 0.85 x 16/3
        ({"early_exit": 1.8, "early_exit_reference": "all", "early_exit_start_epoch": 1}, 2),  # while discovered
        ({"early_exit": 0.85, "early_exit_start_epoch": 7}, None),
    ):
        assert replay(run(), TrainSettings(epochs=10, **settings)).get("flow") == epoch


def test_every_rule_is_one_that_training_takes() -> None:
    for settings in RULES.values():
        assert TrainSettings(epochs=30, **settings)


@pytest.mark.slow
def test_rules_are_trained_compared_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--out", str(tmp_path), "--seeds", "1", "--clips", "4", "--test-clips", "2", "--epochs", "2"]
    asked += ["--rules", "default", "--processes", "1"]
    assert main(asked) == 0
    trained, replayed = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    assert [row["rule"] for row in trained["rows"]] == ["off", "default"]
    assert trained["rows"][1]["saved %"] == 0, "two epochs have no decline"
    assert len(replayed["rows"]) == 72
    assert (tmp_path / "default-0" / "report.html").exists()
    first = (tmp_path / "off-0" / "metrics.jsonl").stat().st_mtime_ns
    assert main(asked) == 0
    assert (tmp_path / "off-0" / "metrics.jsonl").stat().st_mtime_ns == first, "a finished run is not trained again"
