"""Encoders side by side: every one on its own CUDA stream, watched without a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from crema_merv import group as group_module


class Recorder:
    """Stands in for a CUDA stream and notes what is asked of it."""

    notes: list[tuple[str, str, str]]

    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, other: Recorder) -> None:
        self.notes.append((self.name, "waits for", other.name))


class Watched(torch.Tensor):
    """A tensor that notes on which stream it is used."""

    label = ""

    def record_stream(self, stream: Any) -> None:
        Recorder.notes.append((self.label, "is used on", stream.name))


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    Recorder.notes = []
    active: list[str] = []

    class Use:
        def __init__(self, stream: Recorder) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            active.append(self.stream.name)

        def __exit__(self, *error: object) -> None:
            active.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Recorder("main"))
    monkeypatch.setattr(torch.cuda, "stream", Use)
    made = [Recorder("side 0"), Recorder("side 1")]
    monkeypatch.setattr(group_module, "_streams", lambda device, count: made[:count])
    monkeypatch.setattr(Recorder, "active", active, raising=False)
    return Recorder.notes


class Doubling(nn.Module):
    """Notes the stream it runs on."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        Recorder.notes.append(("encoder", "runs on", Recorder.active[-1]))
        doubled = (2 * pixels).as_subclass(Watched)
        doubled.label = "result"
        return doubled


def test_on_a_gpu_every_encoder_runs_on_its_own_stream_and_all_are_awaited(streams: list[tuple[str, str, str]]) -> None:
    frames = [torch.full((1,), float(index)).as_subclass(Watched) for index in range(2)]
    for pixels in frames:
        pixels.label = "pixels"
    encoded = group_module.encode_at_once([Doubling(), Doubling()], frames)
    assert [float(values) for values in encoded] == [0.0, 2.0]
    one = [
        ("side {0}", "waits for", "main"),
        ("encoder", "runs on", "side {0}"),
        ("pixels", "is used on", "side {0}"),
        ("result", "is used on", "main"),
    ]
    expected = [tuple(word.format(index) for word in note) for index in range(2) for note in one]
    assert streams == [*expected, ("main", "waits for", "side 0"), ("main", "waits for", "side 1")]
