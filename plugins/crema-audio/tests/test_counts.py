"""Counts of docs/fidelity.md by the commands it names: on shapes alone, the encoder from its configuration."""

from __future__ import annotations

import json

import pytest

from crema_core.cli.main import main

pytestmark = pytest.mark.slow  # builds whole published shapes


def described(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, float]]:
    assert main(["describe", "--backbone", "blip2-flan-t5-xl", "--json", "--set", "audio.encoder=beats", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    return {row["name"]: row for row in [*found["components"], found["total"]]}


def test_sound_with_beats_has_5_04_million(capsys: pytest.CaptureFixture[str]) -> None:
    rows = described(capsys, "--modalities", "audio")
    assert rows["audio"]["trainable"] == 5_044_352
    assert rows["audio"]["frozen"] == 90_311_664
    assert rows["audio"]["gflops"] > 10


def test_five_modalities_have_37_7_million(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("crema_geometry")
    rows = described(capsys, "--modalities", "video,audio,flow,depth,normals")
    assert round(rows["total"]["trainable"] / 1e6, 1) == 37.7


def test_memory_is_planned_without_weights(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--backbone", "blip2-flan-t5-xl", "--modalities", "audio", "--set", "audio.encoder=beats"]
    assert main(["plan", *words, "--set", "batch_size=2"]) == 0
    assert "peak" in capsys.readouterr().out
