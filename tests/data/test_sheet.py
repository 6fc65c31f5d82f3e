"""Pictures for people."""

from __future__ import annotations

import torch

from crema_core.data.sheet import GAP_PX, TEXT_PX, line, scale_bar, sheet, stack, times_as_captions


def test_frames_are_laid_out_in_rows_with_a_line_below_each() -> None:
    frames = torch.zeros(5, 3, 10, 20, dtype=torch.uint8)
    frames[4, 0] = 255
    picture = sheet(frames, [str(number) for number in range(5)], height=40, columns=3)
    assert picture.shape == (2 * (40 + TEXT_PX + GAP_PX) + GAP_PX, 3 * (80 + GAP_PX) + GAP_PX, 3)
    top, left = GAP_PX + 40 + TEXT_PX + GAP_PX, GAP_PX + 80 + GAP_PX
    assert picture[top + 20, left + 40].tolist() == [255, 0, 0]
    assert picture[top + 20, left + 80 + GAP_PX + 40].tolist() == [255, 255, 255]


def test_floats_and_bytes_look_alike() -> None:
    values = torch.linspace(0, 1, 3 * 8 * 8).view(1, 3, 8, 8)
    assert torch.equal(sheet(values, height=8), sheet((values * 255).round().byte(), height=8))


def test_panels_of_different_widths_are_filled_with_white() -> None:
    panels = [torch.zeros(4, 10, 3, dtype=torch.uint8), torch.zeros(2, 6, 3, dtype=torch.uint8)]
    picture = stack(panels)
    assert picture.shape == (6, 10, 3)
    assert picture[5, 8].tolist() == [255, 255, 255]


def test_text_and_bars_leave_ink() -> None:
    assert int(line("a line").min()) < 100
    bar = scale_bar("grey", "low", "high", width=100)
    assert bar[GAP_PX + 2, GAP_PX].tolist() == [0, 0, 0]
    assert bar[GAP_PX + 2, GAP_PX + 99].tolist() == [255, 255, 255]


def test_captions_are_times_or_numbers() -> None:
    assert times_as_captions(torch.tensor([[0.0, 0.5], [0.5, 1.25]]), 2) == ["0.00-0.50 s", "0.50-1.25 s"]
    assert times_as_captions(None, 2) == ["1 of 2", "2 of 2"]


def test_a_line_is_as_wide_as_its_text() -> None:
    assert line("a").shape[1] < line("a longer line").shape[1] < 200
