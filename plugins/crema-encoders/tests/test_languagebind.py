"""The vision encoder of LanguageBind against CLIP and against attention over time written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch.nn import functional as F

from crema_core.errors import AssetError, OptionsError
from crema_core.video.vision_encoder import VisionEncoder
from crema_encoders.languagebind import LanguageBindEncoder, TimeAwareLayer
from tests.support import vision_encoders
from tests.support.numeric import assert_close_to_scale


def load(folder: Path, **options: int) -> VisionEncoder:
    vision_encoder = LanguageBindEncoder(str(folder), **options)
    vision_encoder.load()
    return vision_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return vision_encoders.save_languagebind(tmp_path / "encoder")


@pytest.mark.parametrize("layer", [-1, -2])
def test_without_attention_over_time_it_is_clip(tmp_path: Path, layer: int) -> None:
    torch.manual_seed(0)
    quiet = vision_encoders.save_languagebind(tmp_path / "encoder", quiet=True)
    state = torch.load(quiet / "pytorch_model.bin", weights_only=True)
    sizes = {**vision_encoders.SIZES, "patch_size": 8, "hidden_act": "gelu"}
    clip = hf.CLIPVisionModel(hf.CLIPVisionConfig(**sizes)).eval()
    own = {key.removeprefix("vision_model."): value for key, value in state.items() if "temporal_" not in key}
    clip.load_state_dict({key: value for key, value in own.items() if not key.startswith("text_model.")})
    frames = torch.randn(2, 4, 3, 16, 16)
    with torch.no_grad():
        expected = clip(frames.flatten(0, 1), output_hidden_states=True).hidden_states[layer][:, 1:]
        torch.testing.assert_close(load(quiet, layer=layer)(frames).flatten(0, 1), expected)


def test_a_layer_attends_over_the_frames_of_every_patch_first() -> None:
    torch.manual_seed(0)
    config = hf.CLIPVisionConfig(**vision_encoders.SIZES, patch_size=8)
    config._attn_implementation = "sdpa"
    layer = TimeAwareLayer(config, num_frames=3).eval()
    torch.nn.init.normal_(layer.frames)
    hidden = torch.randn(3, 5, 8)
    expected = hidden.clone()
    with torch.no_grad():
        for patch in range(5):
            line = hidden[:, patch] + layer.frames[0]
            normed, attention = layer.norm(line), layer.attention
            query, key, value = (getattr(attention, f"{part}_proj")(normed) for part in "qkv")
            heads = (part.unflatten(1, (2, 4)).transpose(0, 1) for part in (query, key, value))
            seen = F.scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
            expected[:, patch] = line + attention.out_proj(seen)
        torch.testing.assert_close(layer(hidden), layer.space(expected, None))


def test_more_frames_than_trained_are_clips_that_do_not_see_each_other(folder: Path) -> None:
    vision_encoder = load(folder)
    assert [vision_encoder.frames_wanted(count) for count in (1, 4, 5, 16)] == [4, 4, 8, 16]
    frames = torch.randn(1, 8, 3, 16, 16)
    changed = frames.clone()
    changed[:, 1] += 1
    with torch.no_grad():
        before, after = vision_encoder(frames), vision_encoder(changed)
        assert_close_to_scale(vision_encoder(frames[:, 4:]), before[:, 4:])
    assert not torch.allclose(before[:, 0], after[:, 0])
    assert torch.equal(before[:, 4:], after[:, 4:])


def test_weights_may_be_safetensors(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = vision_encoders.save_languagebind(tmp_path / "other", file="model.safetensors")
    frames = torch.randn(1, 4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(load(folder)(frames), load(other)(frames))


def test_weights_that_are_not_merged_are_refused(folder: Path) -> None:
    file = folder / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    torch.save({key.replace("encoder.", "encoder.base_model.model."): value for key, value in state.items()}, file)
    with pytest.raises(AssetError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"The weights of '{folder}' are not those of its config.json: layers.0.attention.k_proj.bias is absent. "
        "Accepted: a checkpoint with merged weights (its name ends in merge). Name that one."
    )


def test_cut_weights_are_refused(folder: Path) -> None:
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(AssetError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"The weights of '{folder}' cannot be read: ")
    assert str(caught.value).endswith(
        " Accepted: model.safetensors, or a pytorch_model.bin of tensors alone. Download or copy it again."
    )


def test_an_encoder_of_pictures_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings["vision_config"]["add_time_attn"] = False
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(AssetError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"'{folder}' holds no encoder of clips of LanguageBind: its layers do not attend over time. Accepted: a hub id "
        "such as LanguageBind/LanguageBind_Video_merge, or a folder with its config.json and weights. Check the name, "
        "or download it and name its folder."
    )


def test_a_layer_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        load(folder, layer=-3)
    assert str(caught.value) == (
        f"layer=-3 is none of '{folder}'. Accepted: -1 (the last) to -2. Leave layer out for the last."
    )
