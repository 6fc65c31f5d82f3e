"""How a clip's own tokens read another modality: the numbers, the pictures, and a model of PAVE looked at."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from crema_analysis.maps import attention_maps
from crema_analysis.maps_report import maps_section
from crema_analysis.reads import ReadMap, read_maps
from crema_analysis.reads_report import added_picture, place_picture, time_picture
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import OptionsError
from crema_core.fusion.base import Reading
from crema_core.tokens import OWN_LAYOUT, ModalityTokens
from tests.support.modalities import points_spec, wave_spec
from tests.support.pave_models import randomized, side_example
from tests.support.vlm import save_vlm


def reading(step_of_frame: list[int], *, place: int = 0, num_steps: int = 4, num_places: int = 4) -> ReadMap:
    """Two layers, the second of which reads evenly, of frames that read one step and place each."""
    by_place = torch.zeros(2, len(step_of_frame), num_steps, num_places)
    by_place[1] = 1 / (num_steps * num_places)
    for frame, step in enumerate(step_of_frame):
        by_place[0, frame, step, place] = 1.0
    by_token = by_place.sum(-1)[:, :, None].expand(-1, -1, 4, -1)
    added = torch.arange(4.0 * len(step_of_frame)).view(-1, 4)
    pictures = torch.full((len(step_of_frame), 3, 16, 16), 0.5)
    return ReadMap(by_place, by_token, added, pictures, (2, 2), (2, 2))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_weights_are_summed_over_places_or_steps_for_one_layer_or_the_mean() -> None:
    own = reading([1, 3], place=2)
    assert own.over_time(0).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert own.over_time().tolist() == [[0.125, 0.625, 0.125, 0.125], [0.125, 0.125, 0.125, 0.625]]
    assert own.over_places(0).tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]
    assert own.added_heat().tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]  # type: ignore[union-attr]
    with pytest.raises(OptionsError) as error:
        own.over_time(2)
    assert str(error.value) == (
        "layer=2 is no layer with which this fusion reads. It has 2, 0 to 1. Name one of them, or leave layer out for "
        "their mean."
    )
    data = json.loads(json.dumps(own.to_dict()))
    assert (data["grid"], data["over_places"][0]) == ([2, 2], [0.125, 0.125, 0.625, 0.125])


def tokens(steps: int, *, seconds: bool = True, mask: list[bool] | None = None, **extras: Tensor) -> ModalityTokens:
    times = torch.arange(steps).float()[None, :, None] + torch.tensor([0.0, 1.0]) if seconds else None
    real = torch.tensor([mask or [True] * steps])
    return ModalityTokens(torch.zeros(1, steps, 4, 8), real, torch.tensor([0]), times, None, extras)


def test_seconds_belong_to_steps_only_where_none_were_made_between_them() -> None:
    own = Reading(torch.tensor([0]), torch.rand(1, 2, 3, 5, 4), torch.rand(1, 2, 3, 6, 5), torch.rand(1, 3, 6))
    layout = torch.tensor([[[2, 3]] * 3])
    frames = tokens(3, mask=[True, True, False], layout=layout)
    assert OWN_LAYOUT == "layout"
    found = read_maps({"wave": [own]}, {"video": frames, "wave": tokens(5)}, major="video", pictures=None)["wave"]
    assert (found.by_place.shape, found.by_token.shape, found.added.shape) == ((2, 2, 5, 4), (2, 2, 6, 5), (2, 6))
    assert (found.grid, found.side_grid) == ((2, 3), (2, 2))
    assert found.side_times is not None
    assert (found.side_times[-1].tolist(), found.times.tolist()) == ([4, 5], [[0, 1], [1, 2]])  # type: ignore[union-attr]
    for side in (tokens(4), tokens(5, seconds=False)):  # four seconds cannot be those of five steps
        stretched = read_maps({"wave": [own]}, {"video": frames, "wave": side}, major="video", pictures=None)["wave"]
        assert stretched.side_times is None


def test_a_later_step_lies_further_right_and_a_lower_place_further_down() -> None:
    def bright(png: bytes) -> tuple[float, float]:
        image = pixels(png)
        rows, columns = np.nonzero((image[..., 0] > 230) & (image[..., 1] > 230) & (image[..., 2] < 200))
        return float(rows.mean()), float(columns.mean())

    early, late = (bright(time_picture("wave", reading([step] * 2), layer=0)) for step in (0, 3))
    assert early[1] + 100 < late[1]
    above, below = (bright(place_picture("wave", reading([0, 0], place=place), layer=0)) for place in (0, 2))
    assert above[0] + 20 < below[0]


@pytest.mark.slow
def test_tokens_without_a_grid_have_no_heat_and_frames_without_pictures_the_grid_alone() -> None:
    own = reading([0, 1])
    assert added_picture("wave", own) is not None
    alone = added_picture("wave", ReadMap(own.by_place, own.by_token, own.added, None, (2, 2)))
    assert alone is not None
    assert alone != added_picture("wave", own)
    assert added_picture("wave", ReadMap(own.by_place, own.by_token, own.added, own.pictures, None)) is None
    assert pixels(place_picture("wave", ReadMap(own.by_place, own.by_token, own.added))).min() < 50  # a strip


@pytest.fixture(scope="module")
def pave(tmp_path_factory: pytest.TempPathFactory) -> CremaModel:
    folder = save_vlm(tmp_path_factory.mktemp("video"), "llava_onevision")
    fusion = {"name": "pave", "embed_dim": 16, "num_heads": 2}
    modalities = [{"name": "video", "num_frames": 2}, wave_spec(), points_spec()]
    return randomized(build(modalities, backbone=folder, fusion=fusion))


def sources(*names: str) -> dict[str, Any]:
    clip = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return {name: clip if name == "video" else side_example(name, 0) for name in names}


@pytest.mark.slow
def test_a_model_of_pave_shows_what_its_frames_read(pave: CremaModel, tmp_path: Path) -> None:
    seen = sources("video", "wave", "points")
    plain = pave.answer("what colour ?", ["red", "blue"], **seen)
    found = attention_maps(pave, "what colour ?", seen, choices=("red", "blue"))
    assert found.answer == plain.text
    assert pave.answer("what colour ?", ["red", "blue"], **seen).scores == plain.scores
    assert (found.modalities, found.gate, list(found.reads)) == ({}, None, ["wave", "points"])
    wave, points = found.reads["wave"], found.reads["points"]
    torch.testing.assert_close(wave.over_time().sum(-1), torch.ones(2))
    assert (wave.over_time() > 0).tolist() == [[True, True, True, False, False], [False, False, False, True, True]]
    assert points.over_places().shape == (2, 4)
    assert wave.pictures is not None
    assert wave.grid is not None
    assert wave.pictures.shape[0] == 2
    section = maps_section("test.jsonl:1", found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}-{kind}.png" for name in ("wave", "points") for kind in ("time", "places", "added")
    }
    assert section.html.count("data:image/png;base64,") == 6
    assert "a frame&#x27;s row sums to 1" in section.html
    assert set(json.loads(json.dumps(found.to_dict()))["reads"]) == {"wave", "points"}


@pytest.mark.parametrize("names", [("video",), ("wave",)])
def test_a_question_without_clip_or_without_another_modality_is_refused(
    pave: CremaModel, names: tuple[str, ...]
) -> None:
    with pytest.raises(OptionsError) as error:
        attention_maps(pave, "what colour ?", sources(*names))
    assert str(error.value) == (
        f"The question comes with {names[0]} alone. In this model the tokens of 'video' read the other modalities. "
        "Accepted: 'video' and at least one other. Name a line that has both."
    )
