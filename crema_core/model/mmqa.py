"""The Modality-specific Multi-Query Adapter without its LoRA (which lives inside the shared Q-Former).

CREMA section 3.2: projection FC where widths differ (or interpolation, Table 21), learnable queries, and a linear map
of the Q-Former's output into the language model's space. As in the released code the LayerNorm follows the FC, which
is what the paper's counts of 3.96 M (visual) and 5.04 M (with FC) parameters contain.

Shape letters: M steps of all samples, N tokens of a step, D feature width, E width the Q-Former attends to,
Q queries, H Q-Former width, L language-model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crema_core.errors import OptionsError
from crema_core.plugins.spec import MMQASpec


class Interpolate(nn.Module):
    """Change the feature width by linear interpolation: the parameter-free replacement of the FC (Table 21)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features_MND: Tensor) -> Tensor:
        """Return `(M, N, width)`."""
        return F.interpolate(features_MND, size=self.width, mode="linear", align_corners=True)


def input_projection(feature_dim: int, width: int, kind: str) -> nn.Module:
    """Return the module that brings features to the width the Q-Former attends to.

    Args:
        feature_dim: width D of the features.
        width: width E of the Q-Former's keys and values.
        kind: `MMQASpec.projection`.

    Raises:
        OptionsError: when "never" is asked for and the widths differ.
    """
    if kind == "never" and feature_dim != width:
        raise OptionsError(
            f"projection='never' needs features as wide as the Q-Former expects: they are {feature_dim} wide, "
            f"it expects {width}. Use projection='auto' or 'interpolate'."
        )
    if feature_dim == width and kind != "always":
        return nn.Identity()
    return Interpolate(width) if kind == "interpolate" else nn.Linear(feature_dim, width)


class MMQA(nn.Module):
    """Adapter of one sense around the shared Q-Former.

    Args:
        spec: sizes; `num_queries` must be set.
        feature_dim: D, width of the sense's features.
        width: E, width of the Q-Former's keys and values.
        hidden: H, width of the Q-Former.
        output_dim: L, width of the language model.
    """

    def __init__(self, spec: MMQASpec, *, feature_dim: int, width: int, hidden: int, output_dim: int) -> None:
        super().__init__()
        assert spec.num_queries is not None, "build() fills in the backbone's number of queries"
        self.projection = input_projection(feature_dim, width, spec.projection)
        self.norm = nn.LayerNorm(width) if spec.norm else nn.Identity()
        self.queries = nn.Parameter(torch.empty(1, spec.num_queries, hidden).normal_(std=0.02))
        self.output = nn.Linear(hidden, output_dim)

    def inputs(self, features_MND: Tensor) -> Tensor:
        """Return `(M, N, E)`: what the Q-Former cross-attends to."""
        keys: Tensor = self.norm(self.projection(features_MND.to(self.output.weight.dtype)))
        return keys

    @torch.no_grad()
    def start_from(self, *, queries: Tensor, output: nn.Linear | None, norm: nn.LayerNorm | None) -> None:
        """Copy the backbone's own queries, output projection and vision LayerNorm where the shapes agree.

        Args:
            queries: `(1, Q, H)`; copied when Q is this adapter's number of queries.
            output: the backbone's projection into its own language model; None when another took the seat.
            norm: the LayerNorm after the vision encoder; None for features of another encoder.
        """
        if queries.shape == self.queries.shape:
            self.queries.copy_(queries)
        if output is not None and output.weight.shape == self.output.weight.shape:
            self.output.load_state_dict(output.state_dict())
        if norm is not None and isinstance(self.norm, nn.LayerNorm) and norm.weight.shape == self.norm.weight.shape:
            self.norm.load_state_dict(norm.state_dict())
