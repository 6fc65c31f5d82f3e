"""Point-BERT is counted on a backbone of shapes alone from its released sizes."""

from __future__ import annotations

import json

import pytest

from crema_core.cli.main import main

pytestmark = pytest.mark.slow  # builds whole published shapes

WORDS = ["--backbone", "blip2-flan-t5-xl", "--modalities", "pointcloud", "--set", "pointcloud.encoder=pointbert"]


def test_parameters_and_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *WORDS, "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out)["components"] if row["name"] == "pointcloud"]
    assert row["frozen"] == 21_859_200
    assert row["trainable"] == 4_558_592
    assert row["gflops"] > 1


def test_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *WORDS, "--set", "batch_size=2"]) == 0
    assert "peak" in capsys.readouterr().out
