"""Small random experts, saved in the format of the real ones."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as hf
from torchvision.models.optical_flow import raft_small


def save_zoedepth(folder: Path) -> Path:
    """Two heads as `Intel/zoedepth-nyu-kitti`: indoor to 10 m, outdoor to 80 m."""
    backbone = hf.BeitConfig(
        image_size=32, patch_size=16, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=8,
        use_relative_position_bias=True, reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = hf.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[4, 4, 4, 4], fusion_hidden_size=256, bottleneck_features=256,
        num_relative_features=4, num_attractors=[2, 2, 1, 1], bin_embedding_dim=4, add_projection=True,
        bin_configurations=[
            {"name": "nyu", "n_bins": 4, "min_depth": 0.001, "max_depth": 10.0},
            {"name": "kitti", "n_bins": 4, "min_depth": 0.001, "max_depth": 80.0},
        ],
        num_patch_transformer_layers=4, patch_transformer_hidden_size=128, patch_transformer_intermediate_size=4,
        patch_transformer_num_attention_heads=2,
    )  # fmt: skip
    hf.ZoeDepthForDepthEstimation(config).save_pretrained(folder)
    hf.ZoeDepthImageProcessor(size={"height": 32, "width": 32}, ensure_multiple_of=32).save_pretrained(folder)
    return folder


def save_depth_anything(folder: Path, *, metric: bool = False) -> Path:
    backbone = hf.Dinov2Config(
        image_size=28, patch_size=14, hidden_size=8, num_hidden_layers=4, num_attention_heads=2,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = hf.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=8, neck_hidden_sizes=[4, 4, 4, 4], fusion_hidden_size=4,
        head_hidden_size=4, depth_estimation_type="metric" if metric else "relative", max_depth=20 if metric else 1,
    )  # fmt: skip
    hf.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    hf.DPTImageProcessor(
        size={"height": 28, "width": 28}, ensure_multiple_of=14, keep_aspect_ratio=True
    ).save_pretrained(folder)
    return folder


def save_depth_pro(folder: Path) -> Path:
    def vision_encoder() -> dict[str, object]:
        return hf.Dinov2Config(
            image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2
        ).to_dict()

    config = hf.DepthProConfig(
        patch_size=16, fusion_hidden_size=8, intermediate_hook_ids=[1, 0], intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0], scaled_images_overlap_ratios=[0.0, 0.2], scaled_images_feature_dims=[8, 8],
        use_fov_model=True, num_fov_head_layers=0,
        image_model_config=vision_encoder(), patch_model_config=vision_encoder(),
        fov_model_config=vision_encoder(),
    )  # fmt: skip
    hf.DepthProForDepthEstimation(config).save_pretrained(folder)
    hf.DepthProImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_glpn(folder: Path) -> Path:
    config = hf.GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[4, 4, 8, 8], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=4
    )
    hf.GLPNForDepthEstimation(config).save_pretrained(folder)
    hf.GLPNImageProcessor(size_divisor=32).save_pretrained(folder)
    return folder


def save_tips(folder: Path) -> Path:
    """Depth, normals and classes in one checkpoint."""
    backbone = hf.Tipsv2VisionConfig(
        hidden_size=8, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = hf.Tipsv2DptConfig(
        backbone_config=backbone.to_dict(), neck_hidden_sizes=[4, 4, 4, 4], fusion_hidden_size=4, num_depth_bins=8
    )
    hf.Tipsv2DptForDensePrediction(config).save_pretrained(folder)
    hf.Tipsv2DptImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def save_raft(file: Path) -> Path:
    torch.save(raft_small(weights=None).state_dict(), file)
    return file
