"""Rates, averages and views."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from crema_core.data.modality_calls import prepare
from crema_core.data.reuse import one_sample
from crema_core.errors import ContractError, MediaError
from crema_core.modality import BuildContext
from crema_video.modality import DenseVideoModality
from crema_video.plugin import DENSE, VIEWS
from crema_video.pooling import pool_grid
from crema_video.views import ViewsModality
from tests.support import vision_encoders


def patches(pixels: torch.Tensor) -> torch.Tensor:
    """Means of 2 x 2 squares: an encoder whose tokens are known."""
    return torch.nn.functional.avg_pool2d(pixels, 2).flatten(2).transpose(1, 2)


PLAIN = BuildContext(patches, 3, 8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five seconds at 10 frames per second, brighter from frame to frame."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_dense_frames_come_at_their_rate_with_their_times(clip: Path) -> None:
    dense = DenseVideoModality(DENSE.parse_options({"fps": 4.0}), PLAIN)
    sample = dense.prepare(str(clip))
    assert len(sample.tensors["frames"]) == 20
    assert sample.times is not None
    features = dense.encode(dense.collate([sample]))
    assert features.values.shape == (1, 20, 4, 3)
    assert bool((features.values[0, :, 0, 0].diff() > 0).all())
    few = DenseVideoModality(DENSE.parse_options({"fps": 4.0, "num_frames": 6}), PLAIN)
    assert len(few.prepare(str(clip)).tensors["frames"]) == 6


def test_frames_of_the_same_clip_at_two_rates_come_out_of_one_pass(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modalities = [DenseVideoModality(DENSE.parse_options({"fps": fps}), PLAIN) for fps in (0.8, 4.0)]
    alone = [modality.prepare(str(clip)) for modality in modalities]
    opened: list[str] = []
    given = av.open
    monkeypatch.setattr(av, "open", lambda file, **more: opened.append(file) or given(file, **more))
    with one_sample([(modality, str(clip)) for modality in modalities]):
        found = [prepare(modality, str(clip)) for modality in modalities]
    assert opened == [str(clip)]
    assert [len(own.tensors["frames"]) for own in found] == [4, 20]
    for own, expected in zip(found, alone, strict=True):
        assert own.times is not None
        assert expected.times is not None
        assert torch.equal(own.tensors["frames"], expected.tensors["frames"])
        assert torch.equal(own.times, expected.times)


def test_an_encoder_of_clips_gets_whole_ones(clip: Path, tmp_path: Path) -> None:
    folder = vision_encoders.save_videomae(tmp_path / "videomae")
    dense = DenseVideoModality(DENSE.parse_options({"encoder": "videomae", "weights": str(folder)}), PLAIN)
    dense.load_assets(None)
    features = dense.encode(dense.collate([dense.prepare(str(clip))]))
    assert features.mask.shape == features.values.shape[:2]
    assert features.values.shape[2] <= 4


def test_tokens_are_averaged_to_a_coarser_grid_without_the_class_token() -> None:
    grid = torch.arange(16.0).reshape(1, 1, 16, 1)
    wanted = torch.tensor([2.5, 4.5, 10.5, 12.5]).reshape(1, 1, 4, 1)
    assert torch.equal(pool_grid(grid, 2), wanted)
    assert torch.equal(pool_grid(torch.cat([torch.full((1, 1, 1, 1), 99.0), grid], 2), 2), wanted)
    assert torch.equal(pool_grid(grid, 9), grid)
    assert torch.equal(pool_grid(grid, None), grid)
    assert pool_grid(torch.rand(2, 3, 729, 5), 14).shape == (2, 3, 196, 5)


def test_tokens_that_make_no_square_are_refused() -> None:
    with pytest.raises(ContractError) as caught:
        pool_grid(torch.rand(1, 1, 12, 1), 2)
    assert str(caught.value) == (
        "12 tokens of a frame make no square, with or without a class token. Averaging needs one. Set the option pool "
        "to None, or use another encoder."
    )


def test_views_of_an_instant_are_the_tokens_of_a_step_and_missing_views_are_masked() -> None:
    views = ViewsModality(VIEWS.parse_options({"num_frames": 2, "pool": 2}), PLAIN)
    dark, bright = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    batch = views.collate([views.prepare([dark, bright, dark]), views.prepare([bright])])
    features = views.encode(batch)
    assert features.values.shape == (2, 2, 3 * 4, 3)
    assert features.values[0, :, :, 0].tolist() == [[0.0] * 4 + [1.0] * 4 + [0.0] * 4] * 2
    assert features.mask[1].tolist() == [[True] * 4 + [False] * 8] * 2
    assert bool(features.mask[0].all())


def test_views_keep_the_clock_of_the_first(clip: Path) -> None:
    views = ViewsModality(VIEWS.parse_options({"num_frames": 3}), PLAIN)
    sample = views.prepare([str(clip), str(clip)])
    assert sample.tensors["frames"].shape == (3, 2, 3, 8, 8)
    assert sample.times is not None
    assert sample.times[-1, 1].item() == pytest.approx(5, abs=0.2)


def test_views_of_different_lengths_and_no_views_are_refused() -> None:
    views = ViewsModality(VIEWS.parse_options({"num_frames": 2}), PLAIN)
    with pytest.raises(MediaError) as caught:
        views.prepare([torch.zeros(4, 3, 8, 8), torch.zeros(1, 3, 8, 8)])
    assert str(caught.value) == (
        "The views have 2, 1 frames. Views of one instant belong together, so all need as many. Give clips for all "
        "cameras, or one picture for each."
    )
    with pytest.raises(MediaError) as caught:
        views.prepare([])
    assert str(caught.value) == (
        "A list of views is empty. Accepted: one source per camera. List the files, or leave the modality out."
    )
