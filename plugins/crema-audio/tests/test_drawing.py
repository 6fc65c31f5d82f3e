"""The picture of a sound."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from crema_audio import drawing
from crema_audio.drawing import MOST_PARTS, draw_sound, time_marks, with_axes
from crema_audio.modality import AudioModality
from crema_audio.plugin import SPEC
from crema_audio.sound import Waveform
from crema_core.data import sheet as sheets
from crema_core.modality import BuildContext

RATE = 16_000


def test_axes_have_marks_where_they_are_told() -> None:
    panel = torch.full((40, 101, 3), 200, dtype=torch.uint8)
    picture = with_axes(panel, [(0.0, ""), (0.5, "")], [(1.0, "")], margin=20)
    assert torch.equal(picture[10:50, 20:121], panel)
    below, left = picture[52].float().mean(dim=-1), picture[:, 17].float().mean(dim=-1)
    assert (below < 100).nonzero().flatten().tolist() == [20, 70]
    assert (left < 100).nonzero().flatten().tolist() == [10]


def spied(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], list[list[tuple[float, str]]]]:
    """Return captions of the windows and marks of the axes of time that will be drawn."""
    captions: list[list[str]] = []
    marks: list[list[tuple[float, str]]] = []

    def sheet(frames: Tensor, own: list[str], **sizes: int) -> Tensor:
        captions.append(own)
        return sheets.sheet(frames, own, **sizes)

    def axes(panel: Tensor, across: list[tuple[float, str]], up: list[tuple[float, str]]) -> Tensor:
        marks.append(across)
        return with_axes(panel, across, up)

    monkeypatch.setattr(drawing, "sheet", sheet)
    monkeypatch.setattr(drawing, "with_axes", axes)
    return captions, marks


def tone(samples: int, *, start_s: float = 0.0, reads: list[tuple[int, int]] | None = None) -> Waveform:
    """A tone that is made when it is asked for; `reads` is told which parts were."""

    def part(low: int, high: int) -> Tensor:
        if reads is not None:
            reads.append((low, high))
        return torch.sin(torch.arange(low, high) * 0.2)

    return Waveform(samples, start_s, part)


@pytest.mark.parametrize("options", [{}, {"num_windows": 5}, {"placement": "first", "num_windows": 3}])
def test_every_window_that_is_heard_is_drawn_with_its_time(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    captions, marks = spied(monkeypatch)
    modality = AudioModality(SPEC.parse_options({"start_s": 1.5, "window_s": 1.28, **options}), BuildContext())
    sound = torch.sin(torch.arange(14 * RATE) * 0.2)
    modality.show(sound)
    times = modality.prepare(sound).times
    assert times is not None
    heard = [f"window {number}: {low:.2f}-{high:.2f} s" for number, (low, high) in enumerate(times.tolist(), start=1)]
    assert captions == [heard]
    [axis] = marks
    assert [text for _, text in axis] == ["2 s", "4 s", "6 s", "8 s", "10 s", "12 s", "14 s"]
    assert axis[0][0] == pytest.approx(0.5 / 12.5)


@pytest.mark.slow
def test_a_long_sound_is_drawn_to_its_end_and_read_in_short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    captions, marks = spied(monkeypatch)
    reads: list[tuple[int, int]] = []
    seconds = 3 * 3600
    draw_sound(tone(seconds * RATE, reads=reads), [(0.0, 5.12), (seconds - 5.12, seconds)])
    assert [text for _, text in marks[0]] == ["0 s", "2000 s", "4000 s", "6000 s", "8000 s", "10000 s"]
    assert captions == [["window 1: 0.00-5.12 s", f"window 2: {seconds - 5.12:.2f}-{seconds:.2f} s"]]
    assert max(high for _, high in reads) > (seconds - 0.1) * RATE
    assert max(high - low for low, high in reads) < 6 * RATE
    starts = sorted(low for low, _ in reads)
    assert max(after - before for before, after in pairwise(starts)) < 25 * RATE


@pytest.mark.slow
def test_of_very_many_windows_an_even_part_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    captions, _ = spied(monkeypatch)
    draw_sound(tone(20 * RATE), [(0.1 * number, 0.1 * number + 0.1) for number in range(200)])
    assert len(captions[0]) == MOST_PARTS
    assert captions[0][0].startswith("window 2: ")


@pytest.mark.parametrize("lasts_s", [0.025, 0.3, 1.0, 7.3, 60.0, 1234.5, 36_000.0])
def test_marks_of_time_are_round_and_few(lasts_s: float) -> None:
    marks = time_marks(0.0, lasts_s)
    assert 2 <= len(marks) <= 9
    assert all(float(text.removesuffix(" s")) == pytest.approx(at) for at, text in marks)
