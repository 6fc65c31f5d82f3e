"""The last part of every projector: what brings one token to the language model's width (MERV, "feature projection").

As in the released code; `linear` is the paper's.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from crema_core.errors import OptionsError, did_you_mean

MapKind = Literal["linear", "gelu_mlp", "fused_gelu_mlp", "none"]


def make_map(kind: MapKind, feature_dim: int, width: int) -> nn.Module:
    """Return the map of a token.

    Args:
        kind: "linear", "gelu_mlp" (two linear layers), "fused_gelu_mlp" (three, the first four times as wide as its
            input) or "none" (as it is).
        feature_dim: width of the token.
        width: L.

    Raises:
        OptionsError: for an unknown kind, and for "none" where the widths differ.

    Example:
        >>> make_map("gelu_mlp", 8, 16)
        Sequential(
          (0): Linear(in_features=8, out_features=16, bias=True)
          (1): GELU(approximate='none')
          (2): Linear(in_features=16, out_features=16, bias=True)
        )
    """
    if kind == "linear":
        return nn.Linear(feature_dim, width)
    if kind == "gelu_mlp":
        return nn.Sequential(nn.Linear(feature_dim, width), nn.GELU(), nn.Linear(width, width))
    if kind == "fused_gelu_mlp":
        wide = 4 * feature_dim
        first = (nn.Linear(feature_dim, wide), nn.GELU(), nn.Linear(wide, width))
        return nn.Sequential(*first, nn.GELU(), nn.Linear(width, width))
    if kind == "none":
        if feature_dim != width:
            raise OptionsError(
                f"map='none' was asked for tokens {feature_dim} wide and a language model {width} wide. Without a map "
                "the widths must be equal. Use map='linear'."
            )
        return nn.Identity()
    raise OptionsError(
        f"{kind!r} is no map of a projector. Accepted: {', '.join(get_args(MapKind))}."
        f"{did_you_mean(kind, get_args(MapKind))} Use map='linear', the paper's."
    )
