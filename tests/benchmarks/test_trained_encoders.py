"""The benchmark of trained encoders: what its sensors record, and a very small run of one of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.trained_encoders import CHANNELS, CYCLES, POINTS, STATES, WINDOWS, Accuracy, main, summary, tap_of


@pytest.mark.parametrize("material", CYCLES)
def test_a_tone_is_in_one_direction_of_the_channels_below_the_noise_of_the_others(material: str) -> None:
    generator = np.random.default_rng(0)
    recordings = [tap_of(material, generator).astype("float64") for _ in range(20)]
    direction = np.cos(1.7 * np.arange(CHANNELS) + 0.4)
    direction /= np.linalg.norm(direction)
    spectra = [np.abs(np.fft.rfft(direction @ own)) for own in recordings]
    assert np.mean(spectra, axis=0).argmax() / WINDOWS == pytest.approx(CYCLES[material], abs=0.5)
    channels = np.mean([np.abs(np.fft.rfft(own, axis=1)) for own in recordings], axis=(0, 1))
    assert channels.max() < 1.5 * np.median(channels)
    assert recordings[0].shape == (CHANNELS, WINDOWS * POINTS)


def test_the_summary_has_mean_and_deviation_in_percent() -> None:
    found = [Accuracy("tap", "trained", share) for share in (0.5, 0.7)] + [Accuracy("tap", "pretrained", 0.9)]
    assert summary(found) == [
        {"sensor": "tap", "encoder": "trained", "accuracy": 60.0, "deviation": 14.1},
        {"sensor": "tap", "encoder": "pretrained", "accuracy": 90.0, "deviation": None},
    ]


@pytest.mark.slow
def test_a_small_run_measures_every_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "16", "--pretrain", "16", "--test", "8", "--epochs", "1", "--pretrain-epochs", "1"]
    assert main(["--sensors", "tap", "--seeds", "0", "--out", str(tmp_path / "out"), *sizes]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["state"] for line in lines if "state" in line] == list(STATES)
