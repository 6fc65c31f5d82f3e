"""Point-BERT (Yu et al. 2022, arXiv 2111.14819) as ULIP-2 trained it with pictures and text (arXiv 2305.08275).

A small PointNet makes one token of every group of points; a transformer relates them, with each group's centre as its
position. Names of modules are those of ULIP's released weights.

Shape letters: B clouds, G groups, K points of a group, N tokens (class token and groups), D width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

HEAD_WIDTH = 64
"""Width of an attention head; the released models have six of them (384 wide)."""


def released_shapes() -> dict[str, Tensor]:
    """Return the shapes a `PointBert` of the released sizes follows from: ULIP-2's, with colours; without memory."""
    shapes = {
        "cls_token": (1, 1, 384),
        "reduce_dim.weight": (384, 256),
        "blocks.blocks.11.norm1.weight": (384,),
        "pos_embed.0.weight": (128, 3),
        "encoder.first_conv.0.weight": (128, 6, 1),
    }
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


class PointBert(nn.Module):
    """The encoder; its sizes are those of its weights.

    Args:
        state: weights by name, shapes alone matter here.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        width = state["cls_token"].shape[-1]
        inner = state["reduce_dim.weight"].shape[1]
        depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("blocks.blocks."))
        hidden = state["pos_embed.0.weight"].shape[0]
        self.feature_dim, self.num_channels = int(width), int(state["encoder.first_conv.0.weight"].shape[1])
        self.encoder = GroupEncoder(self.num_channels, inner)
        self.reduce_dim = nn.Linear(inner, width)
        self.cls_token, self.cls_pos = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.blocks = Blocks(width, depth)
        self.norm = nn.LayerNorm(width)

    def forward(self, points_BGKC: Tensor, centers_BG3: Tensor, mask_BG: Tensor) -> Tensor:
        """Encode.

        Args:
            points_BGKC: `(B, G, K, 6)`, see `Groups.points`; weights without colours read positions only.
            centers_BG3: `(B, G, 3)`.
            mask_BG: `(B, G)` bool, True for real groups.

        Returns:
            `(B, 1 + G, D)`, the class token first; what padded groups have is of no meaning.
        """
        tokens = self.reduce_dim(self.encoder(points_BGKC[..., : self.num_channels]))  # (B, G, D)
        first = self.cls_token.expand(len(tokens), -1, -1)
        tokens_BND = torch.cat([first, tokens], dim=1)
        positions_BND = torch.cat([self.cls_pos.expand_as(first), self.pos_embed(centers_BG3)], dim=1)
        mask_BN = nn.functional.pad(mask_BG, (1, 0), value=True)
        encoded: Tensor = self.norm(self.blocks(tokens_BND, positions_BND, mask_BN))
        return encoded


class GroupEncoder(nn.Module):
    """One vector of a group: the maximum over its points, twice, so that the order of points does not matter."""

    def __init__(self, num_channels: int, width: int) -> None:
        super().__init__()
        self.first_conv = _perceptron(num_channels, 128, 256)
        self.second_conv = _perceptron(512, 512, width)

    def forward(self, points_BGKC: Tensor) -> Tensor:
        """Return `(B, G, width)`."""
        batch, groups = points_BGKC.shape[:2]
        own = self.first_conv(points_BGKC.flatten(0, 1).transpose(1, 2))  # (B * G, 256, K)
        whole = own.amax(dim=2, keepdim=True).expand_as(own)
        vectors = self.second_conv(torch.cat([whole, own], dim=1)).amax(dim=2)
        vectors_BGD: Tensor = vectors.unflatten(0, (batch, groups))
        return vectors_BGD


class Blocks(nn.Module):
    """Transformer layers; positions are added anew before each."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, tokens_BND: Tensor, positions_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """Return `(B, N, D)`."""
        for block in self.blocks:
            tokens_BND = block(tokens_BND + positions_BND, mask_BN)
        return tokens_BND


class Block(nn.Module):
    """Pre-norm attention and a perceptron four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width), Perceptron(width)

    def forward(self, tokens_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """Return `(B, N, D)`."""
        tokens_BND = tokens_BND + self.attn(self.norm1(tokens_BND), mask_BN)
        result: Tensor = tokens_BND + self.mlp(self.norm2(tokens_BND))
        return result


class Attention(nn.Module):
    """Self-attention; query, key and value in one map without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, tokens_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """Return `(B, N, D)`; padded tokens are not looked at."""
        query, key, value = self.qkv(tokens_BND).unflatten(2, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask_BN[:, None, None, :])
        projected: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return projected


class Perceptron(nn.Module):
    """Two linear maps with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return `(B, N, D)`."""
        result: Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens_BND)))
        return result


def _perceptron(width_in: int, hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(width_in, hidden, 1), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Conv1d(hidden, width, 1))
