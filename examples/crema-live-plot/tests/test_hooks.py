"""A page that reloads itself, drawn from the run's metrics and not too often."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from crema_core.plugins.hooks import Hooks
from crema_live_plot import hooks


def run_in(folder: Path) -> Hooks:
    lines = [{"kind": "step", "step": step, "loss": 1.0, "loss/imu": 1.0 / step} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = Hooks(strict=True)
    run.add(hooks.LivePlot(), name="live_plot")
    return run


def test_the_page_holds_its_plot_and_reloads_itself(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.call("crema_step_finished", trainer=SimpleNamespace(folder=tmp_path), step=1, losses={}, control=None)
    text = (tmp_path / hooks.FILE).read_text()
    assert '<meta http-equiv="refresh" content="5">' in text
    assert "data:image/png;base64," in text


def test_it_is_drawn_every_few_seconds_and_at_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    clock = iter([100.0, 100.2, 104.0, 105.3, 105.5])
    monkeypatch.setattr(hooks, "draw", drawn.append)
    monkeypatch.setattr(hooks.time, "monotonic", lambda: next(clock))
    run = run_in(tmp_path)
    for step in (1, 2, 3):
        run.call("crema_step_finished", trainer=SimpleNamespace(folder=tmp_path), step=step, losses={}, control=None)
    assert drawn == [tmp_path, tmp_path]
    run.call("crema_checkpoint_saved", path=tmp_path / "checkpoints" / "one", config={})
    assert drawn == [tmp_path] * 3
