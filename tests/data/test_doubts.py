"""Numbers unlikely in their unit: said once for a data file, and listed by the deep check."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from crema_core.data import doubts as doubts_module
from crema_core.data.check import check_sources
from crema_core.data.data_file import read_data_file
from crema_core.data.dataset import Key, ModalityDataset, load_batches
from crema_core.data.doubts import Doubt, collect_doubts, doubt
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins import registry
from crema_core.plugins.spec import InputSpec, ModalityOptions, ModalitySpec


class Weight(Modality):
    """Reads kilograms, and doubts what is heavier than a ton."""

    spec = ModalitySpec(
        name="weight",
        summary="Weights.",
        factory="tests.data.test_doubts:Weight",
        options=ModalityOptions,
        inputs=(InputSpec(kind="array", suffixes=(".npy",), description="kilograms"),),
        encoder="own",
        feature_dim=1,
        prefix="Weight: ",
    )

    def prepare(self, source: object) -> Sample:
        values = np.load(str(source))
        if values.max() > 1000:
            doubt("weight: unit", f"'{source}' weighs {values.max():g} kg. Set unit='gram'.")
        return Sample({"kilograms": torch.from_numpy(values).float()[None]})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["kilograms"][..., None], batch.mask[..., None])

    def example(self, generator: torch.Generator) -> np.ndarray:
        return torch.rand(1, generator=generator).numpy()


@pytest.fixture
def data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(doubts_module, "_said", set())
    registry.register(Weight.spec)
    lines = []
    for number, kilograms in enumerate([5.0, 5000.0, 6000.0, 7.0]):
        np.save(tmp_path / f"{number}.npy", np.array([kilograms]))
        lines.append({"id": number, "question": f"{number}?", "answer": "x", "weight": f"{number}.npy"})
    lines.append({**lines[1], "id": 4, "question": "again?"})
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_first_of_a_data_file_is_said(data_file: Path, num_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    records = read_data_file(data_file, modalities=["weight"])
    dataset = ModalityDataset(records, {"weight": Weight(ModalityOptions(), BuildContext())}, major="weight")
    batches = [[Key(0, 0), Key(0, 1)], [Key(0, 2), Key(0, 3)], [Key(0, 4)]]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(list(load_batches(dataset, batches, num_workers=num_workers))) == 3
    assert [own for own in caplog.messages if "weighs" in own] == [
        f"'{data_file.parent / '1.npy'}' weighs 5000 kg. Set unit='gram'. (line 2) Further ones are not named here; "
        "crema data check --deep lists them."
    ]


def test_the_deep_check_lists_the_lines_of_all(data_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (findings,) = check_sources([data_file], modalities=["weight"]).findings.values()
    assert [(own.kind, own.lines) for own in findings] == [("scale", (2, 3, 5))]
    assert findings[0].text == (
        f"weight: '{data_file.parent / '1.npy'}' weighs 5000 kg. Set unit='gram'. 2 further samples look so too."
    )
    assert caplog.messages == []


def test_doubts_are_collected_by_the_nearest_and_logged_without_one(caplog: pytest.LogCaptureFixture) -> None:
    with collect_doubts() as outer:
        doubt("a", "One.")
        with collect_doubts() as inner:
            doubt("b", "Two.")
        doubt("a", "Three.")
    assert (outer, inner) == ([Doubt("a", "One."), Doubt("a", "Three.")], [Doubt("b", "Two.")])
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        doubt("a", "Only once in a test.")
        doubt("a", "Only once in a test.")
    assert caplog.messages == ["Only once in a test."]
