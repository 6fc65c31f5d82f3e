"""Samples of a modality, put together into a batch."""

from __future__ import annotations

import torch

from crema_core.modality import BuildContext, Sample, pad_samples


def test_a_sample_without_a_clock_has_none_beside_others_either() -> None:
    times = torch.tensor([[0.0, 1.0], [1.0, 2.0]])
    batch = pad_samples([Sample({"values": torch.ones(3, 4)}), Sample({"values": torch.ones(2, 4)}, times)])
    assert batch.times is not None
    assert batch.times[0].isnan().all()
    assert torch.equal(batch.times[1, :2], times)
    assert batch.times[1, 2].tolist() == [0, 0], "padding is zero"
    assert pad_samples([Sample({"values": torch.ones(3, 4)})]).times is None


def test_steps_of_several_frames_reach_the_shared_encoder_as_they_are() -> None:
    seen = []
    context = BuildContext(vision=lambda pixels: seen.append(pixels.shape) or torch.zeros(len(pixels), 5, 6))
    assert context.encode_frames(torch.zeros(2, 3, 2, 3, 8, 8)).shape == (2, 3, 5, 6)
    assert context.encode_frames(torch.zeros(2, 3, 3, 8, 8)).shape == (2, 3, 5, 6)
    assert seen == [(6, 2, 3, 8, 8), (6, 3, 8, 8)]
