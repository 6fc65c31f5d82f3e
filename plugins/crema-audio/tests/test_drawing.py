"""The picture of a sound."""

from __future__ import annotations

import torch

from crema_audio.drawing import with_axes


def test_axes_have_marks_where_they_are_told() -> None:
    panel = torch.full((40, 101, 3), 200, dtype=torch.uint8)
    picture = with_axes(panel, [(0.0, ""), (0.5, "")], [(1.0, "")], margin=20)
    assert torch.equal(picture[10:50, 20:121], panel)
    below, left = picture[52].float().mean(dim=-1), picture[:, 17].float().mean(dim=-1)
    assert (below < 100).nonzero().flatten().tolist() == [20, 70]
    assert (left < 100).nonzero().flatten().tolist() == [10]
