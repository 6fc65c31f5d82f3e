"""The lines, what a resumed run keeps of them, and the table."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from crema_core.plugins.hooks import Hooks
from crema_gradients import hooks


def run_of(folder: Path) -> Hooks:
    run = Hooks(strict=True)
    run.add(hooks, name="gradients")
    for step in (1, 2, 10, 20):
        trainer = SimpleNamespace(folder=folder, step=step - 1)
        norms = {"fusion.gate": 0.5 * step, "modalities.imu.query_tokens": 0.25}
        given = {"modalities": ("imu",), "gradients": {}, "norms": norms}
        run.call("crema_gradients_ready", trainer=trainer, step=step, **given)
    return run


def test_every_tenth_minibatch_is_a_line(tmp_path: Path) -> None:
    run_of(tmp_path)
    assert [line["step"] for line in hooks.read_lines(tmp_path / hooks.FILE)] == [1, 10, 20]
    first = next(hooks.read_lines(tmp_path / hooks.FILE))
    assert first["norms"] == {"fusion.gate": 0.5, "modalities.imu.query_tokens": 0.25}


def test_all_are_lines_where_all_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.EVERY, "1")
    run_of(tmp_path)
    assert len(list(hooks.read_lines(tmp_path / hooks.FILE))) == 4


def test_a_resumed_run_drops_what_it_trains_again_and_a_cut_off_line(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    with (tmp_path / hooks.FILE).open("a") as file:
        file.write('{"step": 3')
    run.call("crema_train_started", trainer=SimpleNamespace(folder=tmp_path, step=12), control=None)
    assert [line["step"] for line in hooks.read_lines(tmp_path / hooks.FILE)] == [1, 10]


def test_the_report_has_the_largest_first_and_nothing_without_lines(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    ((section,),) = run.call("crema_report_sections", run=tmp_path)
    assert section.html.index("fusion.gate") < section.html.index("query_tokens")
    assert "<td>0.5</td><td>5.17</td><td>10</td>" in section.html
    assert run.call("crema_report_sections", run=tmp_path / "other") == [[]]
