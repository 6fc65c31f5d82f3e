"""What encoders cost: rows of those that are small enough for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.encoders import LONG, TASKS, measure
from crema_core.video.vision_encoder import vision_encoder_names

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_encoder_and_every_encoder_of_sound_is_measured() -> None:
    names = {name.partition(" ")[0] for name in TASKS}
    others = {"backbone", "patches", "beats", "ast", "clap", "whisper", "pe", "fourier", "pointbert"}
    assert names >= {*vision_encoder_names(), *others}
    assert set(TASKS) >= LONG


def test_a_row_has_input_size_arithmetic_time_and_shape(tmp_path: Path) -> None:
    row = measure("patches", tmp_path / "weights")
    assert float(str(row.pop("CPU s"))) >= 0
    assert row == {
        "encoder": "patches",
        "input": "10.24 s of sound",
        "million parameters": 0.0,
        "GFLOP": 0.0,
        "output": "2 x 256 x 304",
    }


def test_points_keep_their_number(tmp_path: Path) -> None:
    assert measure("fourier", tmp_path / "weights")["output"] == "1 x 10000 x 43"
