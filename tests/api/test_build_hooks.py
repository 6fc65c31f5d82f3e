"""Building and evaluating tell the installed packages' hooks, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crema_core.api import adding
from crema_core.api import build as building
from crema_core.data.data_file import Record
from crema_core.evaluation import run
from crema_core.plugins.hooks import Hooks
from crema_core.plugins.hookspecs import hookimpl
from tests.support.modalities import frames_spec, points_spec, wave_spec


class Listener:
    """Writes down what it receives."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    @hookimpl
    def crema_build_started(self, config: Any) -> None:
        self.heard.append(("build", config["modalities"]))

    @hookimpl
    def crema_modality_built(self, modality: Any, spec: Any) -> None:
        assert modality.spec is spec
        self.heard.append(("modality", spec.name))

    @hookimpl
    def crema_model_built(self, model: Any) -> None:
        self.heard.append(("model", model.names))

    @hookimpl
    def crema_evaluated(self, metrics: Any) -> None:
        self.heard.append(("evaluated", sorted(metrics)))


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    hooks, listener = Hooks(strict=True), Listener()
    hooks.add(listener, name="listener")
    monkeypatch.setattr(building, "load_hooks", lambda: hooks)
    monkeypatch.setattr(adding, "load_hooks", lambda: hooks)
    monkeypatch.setattr(run, "load_hooks", lambda: hooks)
    return listener


def test_build_tells_of_its_start_every_modality_and_the_model(t5_folder: Path, listener: Listener) -> None:
    model = building.build([frames_spec("main"), wave_spec()], backbone=t5_folder)
    model.add_modality(points_spec())
    assert listener.heard == [
        ("build", ("main", "wave")),
        ("modality", "main"),
        ("modality", "wave"),
        ("model", ("main", "wave")),
        ("modality", "points"),
    ]


def test_an_evaluation_on_its_own_is_told(t5_folder: Path, listener: Listener) -> None:
    model = building.build([wave_spec()], backbone=t5_folder)
    record = Record(id="1", question="what ?", answer="red", type="color", sources={}, line=1)
    run.evaluate(model, [record], modalities=[])
    assert listener.heard[-1] == ("evaluated", ["accuracy", "accuracy/color"])
