"""Several encoders on one clip: every one gets its frames and pixels, and states what it says alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import transformers as hf

from crema_core.api.build import build as build_model
from crema_core.api.load import load
from crema_core.data import sheet as sheets
from crema_core.data.media import resize
from crema_core.errors import AssetError, OptionsError
from crema_core.features.cache.store import pad, split
from crema_core.modality import BuildContext, FeaturePart
from crema_core.video.vision_encoder import vision_encoder_class
from crema_merv.layout import unpack
from crema_merv.video import EncodersVideo
from tests.support import vision_encoders
from tests.support.numeric import assert_close_to_scale

SAVE = {
    "siglip": vision_encoders.save_siglip,
    "vivit": vision_encoders.save_vivit,
    "languagebind": vision_encoders.save_languagebind,
    "timm": vision_encoders.save_timm_vit,
    "clip": vision_encoders.save_clip,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("vision encoders")
    return {name: str(save(place / name)) for name, save in SAVE.items()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen frames in two seconds, ten levels of grey apart, wider than high."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"threads": "1"})
        stream.width, stream.height = 48, 32
        for number in range(16):
            pixels = np.full((32, 48, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def build(folders: dict[str, str], names: str = "siglip vivit languagebind timm", **options: Any) -> EncodersVideo:
    encoders = [{"name": name, "weights": folders[name]} for name in names.split()]
    given = {"encoders": encoders, "num_frames": 2, **options}
    modality = EncodersVideo(EncodersVideo.spec.parse_options(given), BuildContext())
    modality.load_assets(None)
    return modality


def grey(frames: torch.Tensor, modality: EncodersVideo, index: int) -> list[int]:
    """The numbers of the frames an encoder sees, from their grey."""
    assert modality.group is not None
    wanted = modality.group.vision_encoders[index].preprocessing
    levels = frames[0, :, 0, 4, 4] * wanted.std[0] + wanted.mean[0]
    return [round(float(level) * 25.5) for level in levels]


def test_every_encoder_gets_the_middle_frames_of_equal_segments(clip: str, folders: dict[str, str]) -> None:
    modality = build(folders)
    sample = modality.prepare(clip)
    assert {name: tuple(pixels.shape) for name, pixels in sample.tensors.items()} == {
        "siglip": (1, 2, 3, 16, 16),
        "vivit": (1, 4, 3, 16, 16),
        "languagebind": (1, 4, 3, 16, 16),
        "timm": (1, 2, 3, 28, 28),
    }
    seen = [grey(pixels, modality, index) for index, pixels in enumerate(sample.tensors.values())]
    # The clip is read once: of 16 frames the middles of 4 segments, of these the middles of 2.
    assert seen == [[6, 14], [2, 6, 10, 14], [2, 6, 10, 14], [6, 14]]
    assert sample.times is not None
    assert sample.times.tolist() == [[0.0, 2.0]]


def test_the_released_rule_takes_frames_from_the_first_to_the_last(clip: str, folders: dict[str, str]) -> None:
    modality = build(folders, encoder_frames="released")
    sample = modality.prepare(clip)
    seen = [grey(pixels, modality, index) for index, pixels in enumerate(sample.tensors.values())]
    assert seen == [[0, 10], [0, 5, 10, 15], [0, 5, 10, 15], [0, 10]]


def test_the_released_rule_needs_numbers_of_frames_that_divide_each_other(folders: dict[str, str]) -> None:
    with pytest.raises(OptionsError) as caught:
        build(folders, "siglip vivit", num_frames=3, encoder_frames="released")
    assert str(caught.value) == (
        "encoder_frames='released' was set with encoders that see siglip 3, vivit 4 frames. The most must be a "
        "multiple of each. Change num_frames of an encoder, or use encoder_frames='middle'."
    )


def test_features_come_out_as_those_of_every_encoder_alone(clip: str, folders: dict[str, str]) -> None:
    modality = build(folders)
    assert modality.feature_parts == (
        FeaturePart("siglip", 2, 2, 2, 8),
        FeaturePart("vivit", 2, 2, 2, 8),
        FeaturePart("languagebind", 4, 2, 2, 8),
        FeaturePart("timm", 2, 2, 2, 16),
    )
    sources = [clip, torch.rand(7, 3, 20, 30), torch.rand(3, 20, 20)]
    batch = modality.collate([modality.prepare(source) for source in sources])
    with torch.no_grad():
        features = modality.encode(batch)
        assert features.values.shape == (3, 1, 1, modality.feature_dim)
        assert features.mask.tolist() == [[True]] * 3
        for encoder, values in zip(
            modality.feature_parts, unpack(features.values, modality.feature_parts), strict=True
        ):
            alone = vision_encoder_class(encoder.name)(folders[encoder.name])
            alone.load()
            torch.testing.assert_close(values, alone(batch[encoder.name].squeeze(1)))


def test_features_survive_a_cache_and_encoding_again(clip: str, folders: dict[str, str]) -> None:
    modality = build(folders)
    samples = [modality.prepare(source) for source in (clip, torch.rand(5, 3, 20, 30))]
    with torch.no_grad():
        together = modality.encode(modality.collate(samples))
        again = modality.encode(modality.collate(samples))
        alone = modality.encode(modality.collate(samples[1:]))
    kept = pad(split(together, dtype=None), device=torch.device("cpu"))
    assert torch.equal(kept.values, together.values)
    assert torch.equal(again.values, together.values)
    assert_close_to_scale(alone.values, together.values[1:])


def test_weights_of_all_encoders_are_frozen(folders: dict[str, str]) -> None:
    modality = build(folders)
    assert list(modality.parameters())
    assert not [name for name, parameter in modality.named_parameters() if parameter.requires_grad]
    assert modality.group is not None
    assert not [vision_encoder for vision_encoder in modality.group.vision_encoders if vision_encoder.model.training]


def test_the_same_encoder_may_look_twice(folders: dict[str, str]) -> None:
    two = [{"name": "timm", "weights": folders["timm"], "layer": -2}, {"name": "timm", "weights": folders["timm"]}]
    two[1] |= {"image_size": 42, "num_frames": 3}
    modality = EncodersVideo(EncodersVideo.spec.parse_options({"encoders": two, "num_frames": 2}), BuildContext())
    modality.load_assets(None)
    assert modality.feature_parts == (FeaturePart("timm", 2, 2, 2, 16), FeaturePart("timm_2", 3, 3, 3, 16))
    assert list(modality.prepare(torch.rand(4, 3, 9, 9)).tensors) == ["timm", "timm_2"]


def test_a_picture_of_any_shape_is_resized_as_the_encoder_was_trained(folders: dict[str, str]) -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (1, 3, 40, 64), dtype=torch.uint8, generator=generator)
    modality = build(folders, "clip vivit siglip")
    sample = modality.prepare(picture)
    own = hf.CLIPImageProcessor.from_pretrained(folders["clip"])
    expected = own(list(picture), return_tensors="pt").pixel_values
    # The processor rounds to whole grey levels between resizing and normalising.
    torch.testing.assert_close(sample.tensors["clip"][0, :1], expected, atol=0.02, rtol=0)
    whole = build(folders, "siglip").prepare(picture).tensors["siglip"]
    assert torch.equal(sample.tensors["siglip"], whole)


def test_a_squashed_picture_keeps_its_sides(folders: dict[str, str]) -> None:
    picture = torch.zeros(1, 3, 16, 64)
    picture[..., :8] = 1.0
    seen = {}
    for rule in ("trained", "squash"):
        one = {"name": "clip", "weights": folders["clip"], "resize": rule}
        modality = EncodersVideo(EncodersVideo.spec.parse_options({"encoders": [one], "num_frames": 1}), BuildContext())
        seen[rule] = modality.prepare(picture).tensors["clip"].max() > 0
    assert seen == {"trained": False, "squash": True}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_side_by_side_gives_the_numbers_of_one_after_another(folders: dict[str, str]) -> None:
    modality = build(folders)
    assert modality.group is not None
    device = torch.device("cuda")
    modality.to(device)
    batch = modality.collate([modality.prepare(torch.rand(8, 3, 20, 30)) for _ in range(4)]).to(device)
    with torch.no_grad():
        for _ in range(5):
            side_by_side = modality.encode(batch).values
            modality.group.at_once = False
            assert torch.equal(modality.encode(batch).values, side_by_side)
            modality.group.at_once = True


def test_a_model_with_several_encoders_is_saved_and_comes_back(
    clip: str, folders: dict[str, str], t5_folder: Path, tmp_path: Path
) -> None:
    encoders = [{"name": name, "weights": folders[name]} for name in ("siglip", "vivit")]
    model = build_model([{"name": "video", "encoders": encoders, "num_frames": 2}], backbone=t5_folder, fusion="merv")
    answer = model.answer("what is it", video=clip)
    assert not [key for key in model.trainable_parameters() if "vision_encoder" in key or "group" in key]
    model.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.branch("video").modality.options == model.branch("video").modality.options
    assert again.answer("what is it", video=clip).text == answer.text


def test_the_picture_shows_the_frames_that_each_encoder_sees(
    clip: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def panel(frames: torch.Tensor, captions: list[str], *, has_times: bool) -> torch.Tensor:
        assert has_times
        assert len(captions) == len(frames)
        drawn.append(frames)
        return sheets.frames_panel(frames, captions, has_times=has_times)

    monkeypatch.setattr("crema_merv.video.frames_panel", panel)
    modality = build(folders)
    assert modality.show(clip).dim() == 3
    assert modality.group is not None
    prepared = modality.prepare(clip).tensors
    assert list(prepared) == modality.group.names
    for given, frames, seeing in zip(prepared.values(), drawn, modality.group.vision_encoders, strict=True):
        pixels = seeing.preprocessing.normalize(resize(frames, given.shape[-1]))
        torch.testing.assert_close(given[0].mean((1, 2, 3)), pixels.mean((1, 2, 3)), atol=1e-3, rtol=0)


def test_loading_says_where_weights_are_missing(tmp_path: Path) -> None:
    one = {"name": "clip", "weights": str(tmp_path)}
    with pytest.raises(AssetError, match=r"No encoder was found at"):
        EncodersVideo(EncodersVideo.spec.parse_options({"encoders": [one]}), BuildContext()).load_assets(None)
