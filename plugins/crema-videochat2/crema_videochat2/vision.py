"""UMT-L: a vision transformer that sees all frames of a clip jointly (arXiv 2303.16058), as VideoChat2 uses it.

Pre-norm blocks over T x 196 tokens, no class token, no norm at the end; queries and values have a bias, keys have none.
`post_layernorm` is VideoChat2's own LayerNorm over the features, whose copy every visual modality of CREMA starts from.

Shape letters: M clips, T frames, H, W pixels, N = T x rows x columns tokens, E width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

from crema_videochat2.configuration import UmtVisionConfig
from crema_videochat2.positions import position_table


class UmtEmbeddings(nn.Module):
    """Patches of every frame, with positions."""

    def __init__(self, config: UmtVisionConfig) -> None:
        super().__init__()
        self.trained = {"trained_frames": config.trained_frames, "trained_side": config.trained_side}
        size = (1, config.patch_size, config.patch_size)
        self.projection = nn.Conv3d(3, config.hidden_size, kernel_size=size, stride=size)

    def patches(self, pixels_MTCHW: Tensor) -> Tensor:
        """Return `(M, T, rows, columns, E)` without positions."""
        patches_METHW: Tensor = self.projection(pixels_MTCHW.transpose(1, 2))
        return patches_METHW.permute(0, 2, 3, 4, 1)

    def forward(self, pixels_MTCHW: Tensor) -> Tensor:
        """Return `(M, N, E)`, frame by frame and row by row."""
        patches = self.patches(pixels_MTCHW)
        _, frames, rows, columns, width = patches.shape
        positions_NE = position_table(frames, (rows, columns), width, **self.trained)
        return patches.flatten(1, 3) + positions_NE.to(patches.device, patches.dtype)


class UmtAttention(nn.Module):
    """Attention of all tokens of a clip to one another."""

    def __init__(self, config: UmtVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, hidden_MNE: Tensor) -> Tensor:
        """Return `(M, N, E)`."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        parts = F.linear(hidden_MNE, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (M, heads, N, E / heads)
        attended = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return result


class UmtMlp(nn.Module):
    """Feed-forward of a block, exact GELU."""

    def __init__(self, config: UmtVisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_MNE: Tensor) -> Tensor:
        """Return `(M, N, E)`."""
        result: Tensor = self.fc2(F.gelu(self.fc1(hidden_MNE)))
        return result


class UmtBlock(GradientCheckpointingLayer):
    """One layer."""

    def __init__(self, config: UmtVisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = UmtAttention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = UmtMlp(config)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return `(M, N, E)`."""
        hidden_states = hidden_states + self.attn(self.norm1(hidden_states))
        return hidden_states + cast(Tensor, self.mlp(self.norm2(hidden_states)))


class UmtEncoder(nn.Module):
    """The layers."""

    def __init__(self, config: UmtVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(UmtBlock(config) for _ in range(config.num_hidden_layers))

    def forward(self, inputs_embeds: Tensor) -> BaseModelOutput:
        """Return the last layer's output `(M, N, E)`."""
        hidden = inputs_embeds
        for layer in self.layers:
            hidden = layer(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


class UmtVisionModel(PreTrainedModel):
    """Vision encoder with VideoChat2's LayerNorm over its features.

    Example:
        >>> tiny = UmtVisionConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        ...     image_size=32)
        >>> UmtVisionModel(tiny)(torch.zeros(1, 6, 3, 32, 32)).shape    # 6 frames of 2 x 2 patches
        torch.Size([1, 24, 8])
    """

    config_class = UmtVisionConfig
    main_input_name = "pixel_values"
    _no_split_modules = ["UmtBlock"]  # noqa: RUF012 (as transformers declares it)

    def __init__(self, config: UmtVisionConfig) -> None:
        super().__init__(config)
        self.embeddings = UmtEmbeddings(config)
        self.encoder = UmtEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.final_norm_eps)
        cast(Any, self).post_init()

    def encode(self, pixels_MTCHW: Tensor) -> Tensor:
        """Return the features `(M, N, E)` before the LayerNorm.

        Args:
            pixels_MTCHW: `(M, T, 3, H, W)` normalised frames, any T; one frame is a picture.
        """
        hidden: Tensor = self.encoder(self.embeddings(pixels_MTCHW)).last_hidden_state
        return hidden

    def forward(self, pixels_MTCHW: Tensor) -> Tensor:
        """Return the features `(M, N, E)` that VideoChat2's Q-Former attends to; arguments as of `encode`."""
        features: Tensor = self.post_layernorm(self.encode(pixels_MTCHW))
        return features
