"""Checkpoints of the published encoders at their real configuration, with random weights, in the format they have.

No weight is downloaded: what an encoder costs depends on its sizes alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
import transformers as hf
from safetensors.torch import save_file

from crema_3d.pointbert import PointBert
from crema_audio.beats import Beats, BeatsConfig
from crema_encoders.languagebind import TimeAwareVision

LARGE: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
}  # fmt: skip
EVA = "eva02_large_patch14_clip_224"


def save_clip(folder: Path) -> None:
    hf.CLIPVisionModel(hf.CLIPVisionConfig(**LARGE, patch_size=14, image_size=224)).save_pretrained(folder)
    hf.CLIPImageProcessor().save_pretrained(folder)


def save_siglip(folder: Path) -> None:
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    hf.SiglipVisionModel(hf.SiglipVisionConfig(**sizes, patch_size=14, image_size=384)).save_pretrained(folder)
    hf.SiglipImageProcessor(size={"height": 384, "width": 384}).save_pretrained(folder)


def save_dinov2(folder: Path) -> None:
    sizes = {key: value for key, value in LARGE.items() if key != "intermediate_size"}
    hf.Dinov2Model(hf.Dinov2Config(**sizes, patch_size=14, image_size=518)).save_pretrained(folder)
    crop = {"height": 224, "width": 224}
    hf.BitImageProcessor(size={"shortest_edge": 256}, crop_size=crop).save_pretrained(folder)


def save_dinov3(folder: Path) -> None:
    config = hf.DINOv3ViTConfig(**LARGE, patch_size=16, image_size=224, num_register_tokens=4)
    hf.DINOv3ViTModel(config).save_pretrained(folder)


def save_vivit(folder: Path) -> None:
    hf.VivitModel(hf.VivitConfig()).save_pretrained(folder)
    hf.VivitImageProcessor().save_pretrained(folder)


def save_videomae(folder: Path) -> None:
    hf.VideoMAEModel(hf.VideoMAEConfig()).save_pretrained(folder)


def save_vjepa2(folder: Path) -> None:
    hf.VJEPA2Model(hf.VJEPA2Config()).save_pretrained(folder)


def save_languagebind(folder: Path) -> None:
    vision = {**LARGE, "patch_size": 14, "image_size": 224, "hidden_act": "gelu", "add_time_attn": True}
    config = hf.CLIPVisionConfig(**LARGE, patch_size=14, image_size=224, hidden_act="gelu")
    state = TimeAwareVision(config, num_frames=8).state_dict()
    renamed = {}
    for key, value in state.items():
        own = key.replace("layers.", "encoder.layers.", 1).replace(".space.", ".")
        for ours, theirs in ((".attention.", ".temporal_attn."), (".norm.", ".temporal_layer_norm1.")):
            own = own.replace(ours, theirs) if own.startswith("encoder.") else own
        own = own.replace(".frames", ".temporal_embedding")
        renamed[f"vision_model.{own.replace('norm.', 'pre_layrnorm.') if own.startswith('norm.') else own}"] = value
    folder.mkdir(parents=True)
    save_file(renamed, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"vision_config": {**vision, "num_frames": 8}}))


def save_timm(folder: Path) -> None:
    model = timm.create_model(EVA, num_classes=0)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    trained = {"input_size": [3, 224, 224], "num_classes": 0}
    config = {"architecture": EVA, "num_classes": 0, "num_features": model.num_features, "pretrained_cfg": trained}
    (folder / "config.json").write_text(json.dumps(config))


def save_backbone(folder: Path) -> None:
    """The vision encoder of BLIP-2 alone."""
    hf.Blip2VisionModel(hf.Blip2VisionConfig()).save_pretrained(folder)


def save_beats(folder: Path) -> None:
    config = BeatsConfig()
    state = Beats(config).state_dict()
    folder.mkdir(parents=True)
    torch.save({"cfg": config.model_dump(), "model": state}, folder / "beats.pt")


def save_ast(folder: Path) -> None:
    hf.ASTModel(hf.ASTConfig()).save_pretrained(folder)
    hf.ASTFeatureExtractor().save_pretrained(folder)


def save_hearing_clap(folder: Path) -> None:
    hf.ClapModel(hf.ClapConfig()).save_pretrained(folder)
    hf.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)


def save_whisper(folder: Path) -> None:
    sizes = {f"{part}_{name}": value for part in ("encoder", "decoder")
             for name, value in (("layers", 6), ("attention_heads", 8), ("ffn_dim", 2048))}  # fmt: skip
    hf.WhisperModel(hf.WhisperConfig(d_model=512, **sizes)).save_pretrained(folder)
    hf.WhisperFeatureExtractor().save_pretrained(folder)


def save_pe(folder: Path) -> None:
    hf.PeAudioModel(hf.PeAudioConfig()).save_pretrained(folder)
    hf.PeAudioFeatureExtractor(sampling_rate=48_000, hop_length=1920).save_pretrained(folder)


def save_pointbert(folder: Path) -> None:
    """As ULIP trained it: 12 layers, 384 wide, points with colours."""
    shapes = {
        "cls_token": (1, 1, 384), "reduce_dim.weight": (384, 256), "pos_embed.0.weight": (128, 3),
        "encoder.first_conv.0.weight": (128, 6, 1), "blocks.blocks.11.norm1.weight": (384,),
    }  # fmt: skip
    state = PointBert({key: torch.zeros(shape) for key, shape in shapes.items()}).state_dict()
    folder.mkdir(parents=True)
    torch.save({"state_dict": {f"module.point_encoder.{key}": value for key, value in state.items()}}, folder / "a.pt")


def save_zoedepth(folder: Path) -> None:
    layers = ["stage6", "stage12", "stage18", "stage24"]
    backbone = hf.BeitConfig(
        image_size=384, **LARGE, use_relative_position_bias=True, reshape_hidden_states=False, out_features=layers
    )
    ranges = ({"name": "nyu", "n_bins": 64, "min_depth": 0.001, "max_depth": 10.0},
              {"name": "kitti", "n_bins": 64, "min_depth": 0.001, "max_depth": 80.0})  # fmt: skip
    config = hf.ZoeDepthConfig(
        backbone_config=backbone, bin_configurations=list(ranges), num_patch_transformer_layers=4,
        patch_transformer_hidden_size=128, patch_transformer_intermediate_size=1024,
        patch_transformer_num_attention_heads=4,
    )  # fmt: skip
    hf.ZoeDepthForDepthEstimation(config).save_pretrained(folder)
    hf.ZoeDepthImageProcessor(size={"height": 384, "width": 512}, ensure_multiple_of=32).save_pretrained(folder)


def save_depth_anything(folder: Path) -> None:
    hf.DepthAnythingForDepthEstimation(hf.DepthAnythingConfig()).save_pretrained(folder)
    hf.DPTImageProcessor(
        size={"height": 518, "width": 518}, ensure_multiple_of=14, keep_aspect_ratio=True
    ).save_pretrained(folder)


def save_depth_pro(folder: Path) -> None:
    """Three DINOv2-L, pictures of 1536 pixels."""
    sizes = {key: value for key, value in LARGE.items() if key != "intermediate_size"}
    vision_encoder = hf.Dinov2Config(**sizes, patch_size=16, image_size=384).to_dict()
    config = hf.DepthProConfig(
        image_model_config=vision_encoder,
        patch_model_config=vision_encoder,
        fov_model_config=vision_encoder,
        use_fov_model=True,
    )
    hf.DepthProForDepthEstimation(config).save_pretrained(folder)
    hf.DepthProImageProcessor().save_pretrained(folder)


def save_tips(folder: Path) -> None:
    hf.Tipsv2DptForDensePrediction(hf.Tipsv2DptConfig()).save_pretrained(folder)
    hf.Tipsv2DptImageProcessor().save_pretrained(folder)
