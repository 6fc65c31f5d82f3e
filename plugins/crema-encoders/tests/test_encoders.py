"""Vision encoders: every family loads in its real format and keeps the one interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers as hf

from crema_core.errors import AssetError, OptionsError
from crema_core.video.vision_encoder import VisionEncoder, vision_encoder_class, vision_encoder_names
from tests.support import vision_encoders


class Case(NamedTuple):
    vision_encoder: str
    save: Callable[[Path], Path]
    frames: int
    steps: int
    grid: tuple[int, int]
    width: int
    size: int


CASES = {
    "clip": Case("clip", vision_encoders.save_clip, 3, 3, (2, 2), 8, 16),
    "siglip": Case("siglip", vision_encoders.save_siglip, 3, 3, (2, 2), 8, 16),
    "dinov2": Case("dinov2", vision_encoders.save_dinov2, 3, 3, (2, 2), 8, 14),
    "dinov2 with registers": Case("dinov2", vision_encoders.save_dinov2_registers, 3, 3, (2, 2), 8, 14),
    "dinov3": Case("dinov3", vision_encoders.save_dinov3, 3, 3, (2, 2), 8, 16),
    "vivit": Case("vivit", vision_encoders.save_vivit, 4, 2, (2, 2), 8, 16),
    "videomae": Case("videomae", vision_encoders.save_videomae, 4, 2, (2, 2), 8, 16),
    "vjepa2": Case("vjepa2", vision_encoders.save_vjepa2, 4, 2, (2, 2), 12, 16),
    "languagebind": Case("languagebind", vision_encoders.save_languagebind, 4, 4, (2, 2), 8, 16),
    "timm": Case("timm", vision_encoders.save_timm, 3, 3, (2, 2), 16, 28),
    "timm with registers": Case("timm", vision_encoders.save_timm_vit, 3, 3, (2, 2), 16, 28),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("vision encoders")
    return {name: case.save(place / name) for name, case in CASES.items()}


def loaded(folders: dict[str, Path], name: str, **options: object) -> VisionEncoder:
    vision_encoder = vision_encoder_class(CASES[name].vision_encoder)(str(folders[name]), **options)
    vision_encoder.load()
    return vision_encoder


def noise(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 20, 30), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", CASES)
def test_an_encoder_gives_patches_of_every_step(folders: dict[str, Path], name: str) -> None:
    case, vision_encoder = CASES[name], loaded(folders, name)
    assert vision_encoder.frames_wanted(3) == case.frames
    frames = vision_encoder.prepare(noise(case.frames))
    assert frames.shape == (case.frames, 3, case.size, case.size)
    with torch.no_grad():
        tokens = vision_encoder(torch.stack([frames, vision_encoder.prepare(noise(case.frames, 1))]))
    assert tokens.shape == (2, case.steps, case.grid[0] * case.grid[1], case.width)
    assert (vision_encoder.grid, vision_encoder.feature_dim) == (case.grid, case.width)
    assert bool(torch.isfinite(tokens).all())
    assert not torch.equal(tokens[0], tokens[1])


@pytest.mark.parametrize("name", CASES)
def test_an_encoders_weights_are_frozen(folders: dict[str, Path], name: str) -> None:
    vision_encoder = loaded(folders, name)
    assert list(vision_encoder.parameters())
    assert not [parameter for parameter in vision_encoder.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_known_before_the_weights_are_read(folders: dict[str, Path], name: str) -> None:
    case = CASES[name]
    vision_encoder = vision_encoder_class(case.vision_encoder)(str(folders[name]))
    assert (vision_encoder.feature_dim, vision_encoder.grid, vision_encoder.frames_wanted(3)) == (
        case.width,
        case.grid,
        case.frames,
    )
    assert vision_encoder.model is None


@pytest.mark.parametrize("name", ["clip", "siglip", "vivit"])
def test_patches_are_those_of_transformers(folders: dict[str, Path], name: str) -> None:
    case = CASES[name]
    classes = {"clip": hf.CLIPVisionModel, "siglip": hf.SiglipVisionModel, "vivit": hf.VivitModel}
    frames = torch.randn(1, case.frames, 3, case.size, case.size)
    with torch.no_grad():
        model = classes[name].from_pretrained(folders[name]).eval()
        expected = model(frames if name == "vivit" else frames[0]).last_hidden_state
        found = loaded(folders, name)(frames)
    prefix = 0 if name == "siglip" else 1
    torch.testing.assert_close(found.flatten(0, -2), expected[:, prefix:].flatten(0, -2))


def test_pixels_are_normalised_as_the_checkpoints_own_processor_does(folders: dict[str, Path]) -> None:
    """ViViT scales to -1..1 first and then subtracts 0.5 and divides by 0.5."""
    pixels = noise(4)[..., :16, :16]
    for name, processor in (("vivit", hf.VivitImageProcessor), ("clip", hf.CLIPImageProcessor)):
        own = processor.from_pretrained(folders[name])
        numbers = list(pixels.permute(0, 2, 3, 1).numpy())
        expected = torch.as_tensor(own([numbers] if name == "vivit" else numbers, return_tensors="pt").pixel_values)
        found = loaded(folders, name).prepare(pixels)
        torch.testing.assert_close(found, expected.reshape(found.shape).float(), atol=1e-5, rtol=0)


def test_the_layer_before_the_last_is_one_option_away(folders: dict[str, Path]) -> None:
    frames = torch.randn(1, 2, 3, 16, 16)
    with torch.no_grad():
        model = hf.CLIPVisionModel.from_pretrained(folders["clip"]).eval()
        expected = model(frames[0], output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(loaded(folders, "clip", layer=-2)(frames)[0], expected)


@pytest.mark.parametrize(("name", "told"), [
    ("clip", "layer=-5 is none of '{0}'. Accepted: -1 (the last) to -2. Leave layer out for the last."),
    ("timm", "layer=-5 is none of '{0}'. Accepted: -1 (the last) to -3. Leave layer out for the last."),
])  # fmt: skip
def test_a_layer_that_is_not_there_is_refused(folders: dict[str, Path], name: str, told: str) -> None:
    with pytest.raises(OptionsError) as caught:
        loaded(folders, name, layer=-5)
    assert str(caught.value) == told.format(folders[name])


def test_a_layer_of_timm_is_its_output_without_the_final_norm(folders: dict[str, Path]) -> None:
    frames = torch.randn(1, 2, 3, 28, 28)
    model = loaded(folders, "timm with registers").model
    with torch.no_grad():
        hidden = model._pos_embed(model.patch_embed(frames[0]))
        for block in model.blocks[:-1]:
            hidden = block(hidden)
        torch.testing.assert_close(loaded(folders, "timm with registers", layer=-2)(frames)[0], hidden[:, 5:])


@pytest.mark.parametrize(("name", "size"), [("timm with registers", 42), ("dinov2", 21)])
def test_towers_of_any_size_interpolate_their_positions(folders: dict[str, Path], name: str, size: int) -> None:
    vision_encoder = loaded(folders, name, image_size=size)
    frames = vision_encoder.prepare(noise(2))
    assert (vision_encoder.grid, frames.shape) == ((3, 3), (2, 3, size, size))
    assert vision_encoder(frames[None]).shape == (1, 2, 9, CASES[name].width)


def test_another_size_is_refused_by_encoders_of_one_size(folders: dict[str, Path]) -> None:
    with pytest.raises(OptionsError) as caught:
        vision_encoder_class("vivit")(str(folders["vivit"]), image_size=32)
    assert str(caught.value) == (
        "image_size=32 was asked of the vision encoder 'vivit', which takes pictures of the size it was trained with "
        "alone. Encoders of any size: dinov2, dinov3, timm. Leave image_size out."
    )


def test_frames_of_a_clip_see_each_other_and_pictures_do_not(folders: dict[str, Path]) -> None:
    for name, alone in (("siglip", True), ("vivit", False)):
        vision_encoder, frames = loaded(folders, name), torch.randn(1, 4, 3, 16, 16)
        changed = frames.clone()
        changed[:, -1] += 1
        with torch.no_grad():
            same = torch.equal(vision_encoder(frames)[:, 0], vision_encoder(changed)[:, 0])
        assert same == alone


def test_weights_may_be_kept_in_bf16(folders: dict[str, Path]) -> None:
    vision_encoder = loaded(folders, "siglip", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in vision_encoder.parameters()} == {torch.bfloat16}
    assert vision_encoder(torch.randn(1, 1, 3, 16, 16)).shape == (1, 1, 4, 8)


def test_a_name_that_is_no_encoder_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        vision_encoder_class("siglib")
    assert str(caught.value) == (
        f"'siglib' is no vision encoder. Accepted: backbone, {', '.join(vision_encoder_names())}. Did you mean "
        "'siglip'? Use one of these, or install the package that adds it."
    )
    assert {"clip", "siglip", "timm"} <= set(vision_encoder_names())


def test_a_folder_of_another_library_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(AssetError) as caught:
        vision_encoder_class("timm")(str(folders["clip"])).load()
    assert str(caught.value) == (
        f"'{folders['clip']}' holds no checkpoint of timm: 'architecture'. Accepted: a hub id, or a folder with timm's "
        "config.json and model.safetensors. Check the name, or download it and name its folder."
    )
    with pytest.raises(AssetError) as caught:
        vision_encoder_class("timm")().load()
    assert str(caught.value) == (
        "The vision encoder 'timm' was chosen without weights. It needs a checkpoint. Pass the option weights with a "
        "hub id or a folder."
    )


def test_cut_weights_of_timm_are_refused(tmp_path: Path) -> None:
    folder = vision_encoders.save_timm(tmp_path / "timm")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(AssetError) as caught:
        vision_encoder_class("timm")(str(folder)).load()
    assert str(caught.value).startswith(f"The weights of '{folder}' cannot be read: ")
    assert str(caught.value).endswith(". Download or copy it again.")


def test_a_preprocessor_that_is_not_json_is_refused(tmp_path: Path) -> None:
    folder = vision_encoders.save_siglip(tmp_path / "siglip")
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(AssetError, match=r"preprocessor_config.json' is not JSON .* Download it again\.$"):
        vision_encoder_class("siglip")(str(folder)).load()
