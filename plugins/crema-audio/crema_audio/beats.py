"""BEATs, the paper's audio encoder (Chen et al. 2022, arXiv 2212.09058), and its released checkpoint format.

A patch embedding of the filter bank, a convolution that adds positions, and transformer layers with a relative
position bias that every query gates. Post-norm with deep norm (as released) and pre-norm.

Shape letters: B windows, F frames, N tokens, D width, H heads, K head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from crema_core.common.tensors import no_room
from crema_core.errors import AssetError, first_line


class BeatsConfig(BaseModel):
    """Sizes, under the names of the released `cfg`; entries that only matter in training are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    deep_norm: bool = True
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True


class Beats(nn.Module):
    """The encoder.

    Args:
        config: sizes.
    """

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.encoder_embed_dim, config.input_patch_size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, patch, stride=patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj: nn.Module = (
            nn.Linear(config.embed_dim, width) if config.embed_dim != width else nn.Identity()
        )
        self.encoder = BeatsEncoder(config)

    def forward(self, fbank_BFM: Tensor) -> Tensor:
        """Encode normalised filter banks.

        Args:
            fbank_BFM: `(B, F, M)`, F frames and M mel bands, both multiples of the patch size.

        Returns:
            `(B, N, D)`, tokens in order of time, M / patch tokens per time step.
        """
        patches = self.patch_embedding(fbank_BFM[:, None]).flatten(2).transpose(1, 2)
        tokens: Tensor = self.encoder(self.post_extract_proj(self.layer_norm(patches)))
        return tokens


class BeatsEncoder(nn.Module):
    """Convolutional positions and the layers."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.layer_norm_first = config.layer_norm_first
        self.pos_conv = nn.Conv1d(
            width, width, config.conv_pos, padding=config.conv_pos // 2, groups=config.conv_pos_groups
        )
        self.layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(BeatsLayer(config) for _ in range(config.encoder_layers))
        self.position_bias = RelativeBias(config) if config.relative_position_embedding else None

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return `(B, N, D)`."""
        positions = self.pos_conv(tokens_BND.transpose(1, 2))[..., : tokens_BND.shape[1]]  # even kernels give one more
        tokens_BND = tokens_BND + F.gelu(positions).transpose(1, 2)
        if not self.layer_norm_first:
            tokens_BND = self.layer_norm(tokens_BND)
        bias_HNN = None if self.position_bias is None else self.position_bias(tokens_BND.shape[1])
        for layer in self.layers:
            tokens_BND = layer(tokens_BND, bias_HNN)
        return self.layer_norm(tokens_BND) if self.layer_norm_first else tokens_BND


class BeatsLayer(nn.Module):
    """Attention and feed-forward; post-norm scales the residual by (2 * layers) ** 1/4 under deep norm."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.pre_norm = config.layer_norm_first
        self.residual = (2 * config.encoder_layers) ** 0.25 if config.deep_norm and not self.pre_norm else 1.0
        self.self_attn = GatedAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)
        activations: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}
        self.activation = activations[config.activation_fn]

    def forward(self, tokens_BND: Tensor, bias_HNN: Tensor | None) -> Tensor:
        """Return `(B, N, D)`."""
        if self.pre_norm:
            tokens_BND = tokens_BND + self.self_attn(self.self_attn_layer_norm(tokens_BND), bias_HNN)
            return tokens_BND + self._feed_forward(self.final_layer_norm(tokens_BND))
        attended = self.self_attn(tokens_BND, bias_HNN)
        tokens_BND = self.self_attn_layer_norm(tokens_BND * self.residual + attended)
        normed: Tensor = self.final_layer_norm(tokens_BND * self.residual + self._feed_forward(tokens_BND))
        return normed

    def _feed_forward(self, tokens_BND: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.activation(self.fc1(tokens_BND)))
        return out


class GatedAttention(nn.Module):
    """Self-attention whose relative position bias is scaled per head and query by a gate."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, self.num_heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.gated = config.gru_rel_pos and config.relative_position_embedding
        if self.gated:
            self.grep_linear = nn.Linear(width // self.num_heads, 8)
            self.grep_a = nn.Parameter(torch.ones(1, self.num_heads, 1, 1))

    def forward(self, tokens_BND: Tensor, bias_HNN: Tensor | None) -> Tensor:
        """Return `(B, N, D)`."""
        query, key, value = (
            project(tokens_BND).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # each (B, H, N, K)
        bias = bias_HNN
        if self.gated and bias_HNN is not None:
            gates = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid()  # (B, H, N, 2)
            first, second = gates.split(1, dim=-1)
            bias = (first * (second * self.grep_a - 1) + 2) * bias_HNN
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class RelativeBias(nn.Module):
    """One learned number per head and bucket of distance, shared by all layers."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        self.table = nn.Embedding(config.num_buckets, config.encoder_attention_heads)

    def forward(self, num_tokens: int) -> Tensor:
        """Return `(H, N, N)`, rows are queries."""
        bias: Tensor = self.table(self.buckets(num_tokens).to(self.table.weight.device)).permute(2, 0, 1)
        return bias

    def buckets(self, num_tokens: int) -> Tensor:
        """Return bucket ids `(N, N)`: half for each direction, near distances exact, far ones logarithmic."""
        position = torch.arange(num_tokens)
        offset = position[None, :] - position[:, None]  # key minus query
        half = self.num_buckets // 2
        exact = half // 2
        distance = offset.abs()
        scale = (half - exact) / math.log(self.max_distance / exact)
        far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).to(torch.int64)
        return (offset > 0) * half + torch.where(distance < exact, distance, far.clamp(max=half - 1))


def load_beats(path: str | Path) -> Beats:
    """Load a released BEATs checkpoint, a torch file with `cfg` and `model`; nothing in it is executed.

    Raises:
        AssetError: when the file is absent, damaged, of another format, or its weights do not fit its configuration.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config, state = BeatsConfig(**content["cfg"]), content["model"]
    except Exception as error:
        raise no_room(path, error) or AssetError(
            f"'{path}' is not a readable BEATs checkpoint: {first_line(error)}. Accepted: the released torch file with "
            "the entries 'cfg' and 'model'. Download it again and pass its path."
        ) from error
    return beats_from_state(config, state)


def beats_from_state(config: BeatsConfig, state: Mapping[str, Tensor]) -> Beats:
    """Build an encoder from released weights; the classifier of fine-tuned checkpoints is left out.

    Raises:
        AssetError: listing every key that does not fit.
    """
    model = Beats(config)
    renamed = _rename(state)
    own = model.state_dict()
    lines = [f"missing: {key}" for key in own if key not in renamed]
    lines += [f"unknown: {key}" for key in renamed if key not in own]
    lines += [
        f"shape: {key} is {tuple(renamed[key].shape)}, the configuration gives {tuple(value.shape)}"
        for key, value in own.items()
        if key in renamed and renamed[key].shape != value.shape
    ]
    if lines:
        raise AssetError(
            f"The BEATs weights do not fit their configuration, {len(lines)} keys differ:\n  "
            + "\n  ".join(lines)
            + "\nAll must agree. Pass the checkpoint as it was released."
        )
    model.load_state_dict(renamed)
    return model.eval()


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        if key.startswith("predictor"):
            continue
        if ".relative_attention_bias." in key:  # one table, stored again in every layer
            if ".layers.0." in key:
                renamed["encoder.position_bias.table.weight"] = value
        elif key == "encoder.pos_conv.0.bias":
            renamed["encoder.pos_conv.bias"] = value
        elif key == "encoder.pos_conv.0.weight_v":  # weight norm over everything but the kernel axis
            norm = value.pow(2).sum(dim=(0, 1), keepdim=True).sqrt()
            renamed["encoder.pos_conv.weight"] = state["encoder.pos_conv.0.weight_g"] * value / norm
        elif key != "encoder.pos_conv.0.weight_g":
            renamed[key] = value
    return renamed
