"""Small random vision encoders, saved in the format of the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file

SIZES: dict[str, Any] = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8, "image_size": 16,
}  # fmt: skip


def save_clip(folder: Path) -> Path:
    """Both vision encoders, as the released checkpoint."""
    text = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4, "vocab_size": 8}
    config = hf.CLIPConfig(vision_config={**SIZES, "patch_size": 8}, text_config=text, projection_dim=4)
    hf.CLIPModel(config).save_pretrained(folder)
    hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """Both vision encoders, as the released checkpoint."""
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4, "vocab_size": 8}
    hf.SiglipModel(hf.SiglipConfig(vision_config={**SIZES, "patch_size": 8}, text_config=text)).save_pretrained(folder)
    hf.SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_dinov2(folder: Path, *, registers: int = 0) -> Path:
    """Trained at 28 pixels, used at 14 as the released one is trained at 518 and used at 224."""
    sizes = {**SIZES, "image_size": 28, "patch_size": 7}
    if registers:
        config = hf.Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        hf.Dinov2WithRegistersModel(config).save_pretrained(folder)
    else:
        hf.Dinov2Model(hf.Dinov2Config(**sizes)).save_pretrained(folder)
    processor = hf.BitImageProcessor(size={"shortest_edge": 18}, crop_size={"height": 14, "width": 14})
    processor.save_pretrained(folder)
    return folder


def save_dinov2_registers(folder: Path) -> Path:
    """With four registers."""
    return save_dinov2(folder, registers=4)


def save_dinov3(folder: Path) -> Path:
    """Rotary positions, four registers."""
    config = hf.DINOv3ViTConfig(**SIZES, patch_size=8, num_register_tokens=4)
    hf.DINOv3ViTModel(config).save_pretrained(folder)
    return folder


def save_vivit(folder: Path) -> Path:
    """Four frames, tubes of two; pixels in -1..1 before they are normalised."""
    config = hf.VivitConfig(**SIZES, num_frames=4, tubelet_size=[2, 8, 8])
    hf.VivitForVideoClassification(config).save_pretrained(folder)
    hf.VivitImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_videomae(folder: Path) -> Path:
    """As pre-trained, decoder included."""
    config = hf.VideoMAEConfig(
        **SIZES, patch_size=8, num_frames=4, decoder_hidden_size=8, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=8,
    )  # fmt: skip
    hf.VideoMAEForPreTraining(config).save_pretrained(folder)
    return folder


def save_vjepa2(folder: Path) -> Path:
    """With its predictor, which is not run."""
    config = hf.VJEPA2Config(
        patch_size=8, crop_size=16, frames_per_clip=4, hidden_size=12, num_hidden_layers=2, num_attention_heads=2,
        mlp_ratio=2, pred_hidden_size=12, pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=2,
    )  # fmt: skip
    hf.VJEPA2Model(config).save_pretrained(folder)
    return folder


def save_languagebind(folder: Path, *, file: str = "pytorch_model.bin", quiet: bool = False) -> Path:
    """Four frames a clip, in LanguageBind's own layout; `quiet`: attention over time adds nothing."""
    sizes = {**SIZES, "patch_size": 8, "hidden_act": "gelu"}
    own = hf.CLIPVisionModel(hf.CLIPVisionConfig(**sizes)).state_dict()
    state = {f"vision_model.{key}": value for key, value in own.items()}
    width, scale = sizes["hidden_size"], 0.0 if quiet else 1.0
    for layer in range(sizes["num_hidden_layers"]):
        stem = f"vision_model.encoder.layers.{layer}.temporal_"
        state[f"{stem}embedding"] = scale * torch.randn(1, 4, width)
        state |= {f"{stem}layer_norm1.{end}": torch.rand(width) for end in ("weight", "bias")}
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            state[f"{stem}attn.{name}.weight"] = scale * torch.randn(width, width) / width**0.5
            state[f"{stem}attn.{name}.bias"] = scale * torch.randn(width)
    state["text_model.final_layer_norm.weight"] = torch.ones(4)
    folder.mkdir(parents=True)
    if file.endswith(".bin"):
        torch.save(state, folder / file)
    else:
        save_file(state, folder / file)
    vision = {**sizes, "image_size": [16, 16], "add_time_attn": True, "num_frames": 4, "lora_r": 0}
    (folder / "config.json").write_text(json.dumps({"model_type": "LanguageBindVideo", "vision_config": vision}))
    return folder


def save_timm_vit(folder: Path) -> Path:
    """Registers and learned positions, as DINOv2 in timm."""
    import timm  # comes with crema-encoders

    arguments = {"img_size": 28, "embed_dim": 16, "depth": 3, "num_heads": 2}
    model = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, **arguments)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    trained = {"input_size": [3, 28, 28], "mean": [0.4] * 3, "std": [0.2] * 3, "crop_pct": 0.875, "num_classes": 0}
    config = {
        "architecture": "vit_small_patch14_reg4_dinov2", "num_classes": 0, "num_features": 16,
        "model_args": arguments, "pretrained_cfg": trained,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_three(folder: Path) -> list[dict[str, str]]:
    """Pictures of two widths and clips of two steps, as `build(encoders=...)` takes them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        saved = {
            "siglip": save_siglip(folder / "siglip"),
            "vivit": save_vivit(folder / "vivit"),
            "timm": save_timm_vit(folder / "timm"),
        }
    return [{"name": name, "weights": str(place)} for name, place in saved.items()]


def save_timm(folder: Path) -> Path:
    """An EVA-02 in timm's layout."""
    import timm  # comes with crema-encoders

    arguments = {"img_size": 28, "embed_dim": 16, "depth": 3, "num_heads": 2}
    model = timm.create_model("eva02_tiny_patch14_224", num_classes=0, **arguments)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": "eva02_tiny_patch14_224", "num_classes": 0, "num_features": 16, "model_args": arguments,
        "pretrained_cfg": {"input_size": [3, 28, 28], "mean": [0.4] * 3, "std": [0.2] * 3, "num_classes": 0},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder
