"""Optical flow between two frames by torchvision's RAFT (Teed and Deng 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights, raft_large, raft_small

from crema_core.errors import AssetError
from crema_core.model.trainable import freeze
from crema_geometry.experts.unimatch import UniMatchExpert
from crema_geometry.experts.weights import read_state, refuse_other_weights

FlowModel = Literal["raft_large", "raft_small", "unimatch"]
RaftModel = Literal["raft_large", "raft_small"]
BUILDERS = {
    "raft_large": (raft_large, Raft_Large_Weights.DEFAULT),
    "raft_small": (raft_small, Raft_Small_Weights.DEFAULT),
}
STRIDE, SMALLEST = 8, 128
"""RAFT works on an eighth of the picture and needs at least 16 x 16 there."""


def flow_expert(name: FlowModel, *, weights: str | None, device: str = "cpu") -> FlowExpert | UniMatchExpert:
    """Return the expert of a name; arguments and errors as theirs."""
    if name == "unimatch":
        return UniMatchExpert(weights=weights, device=device)
    return FlowExpert(name, weights=weights, device=device)


class FlowExpert:
    """RAFT, frozen.

    Args:
        name: "raft_large" or "raft_small".
        weights: a local file (.pth or .safetensors) of torchvision's weights; None: torchvision's own download, whose
            checksum it compares.
        device: where it runs.

    Raises:
        AssetError: when the weights cannot be had or do not fit.
    """

    def __init__(self, name: RaftModel = "raft_large", *, weights: str | None = None, device: str = "cpu") -> None:
        make, default = BUILDERS[name]
        model = make(weights=None)
        if weights is None:
            try:
                state = default.get_state_dict(progress=False, check_hash=True, weights_only=True)
            except (OSError, RuntimeError) as error:
                raise AssetError(
                    f"The weights of {name} could not be downloaded from {default.url} ({error}). Accepted: a machine "
                    "that reaches it, or a local copy. Pass --flow-weights path/to/file.pth."
                ) from error
        else:
            state = read_state(weights, accepted="a file of torchvision's RAFT, .pth or .safetensors")
        refuse_other_weights(
            model,
            state,
            weights=weights,
            name=name,
            accepted="torchvision's file for this model. Pass --flow-model raft_small or raft_large to match it",
        )
        model.load_state_dict(state)
        freeze(model)
        self.model = model.eval().to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, first_TCHW: Tensor, second_TCHW: Tensor, *, batch_size: int = 2) -> Tensor:
        """Estimate how pixels of the first frames move to the second.

        Args:
            first_TCHW, second_TCHW: `(T, 3, H, W)` uint8.
            batch_size: pairs per pass.

        Returns:
            `(T, H, W, 2)` pixels to the right and down.
        """
        height, width = first_TCHW.shape[-2:]
        # Enlarged where smaller than RAFT takes, then padded by repeating edges; vectors are scaled back.
        scale = max(SMALLEST / height, SMALLEST / width, 1.0)
        flows: list[Tensor] = []
        for first, second in zip(first_TCHW.split(batch_size), second_TCHW.split(batch_size), strict=True):
            pair = [self._input(frames, scale) for frames in (first, second)]
            flow = self.model(*pair)[-1].float().cpu()
            grown = (round(height * scale), round(width * scale))
            flow = flow[..., : grown[0], : grown[1]]
            if scale != 1.0:
                flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
                flow = flow * flow.new_tensor([width / grown[1], height / grown[0]]).view(1, 2, 1, 1)
            flows.append(flow)
        return torch.cat(flows).permute(0, 2, 3, 1).contiguous()

    def _input(self, frames_TCHW: Tensor, scale: float) -> Tensor:
        values = frames_TCHW.to(self.device).float() / 127.5 - 1
        if scale != 1.0:
            size = [round(side * scale) for side in values.shape[-2:]]
            values = F.interpolate(values, size=size, mode="bilinear", align_corners=False)
        height, width = values.shape[-2:]
        return F.pad(values, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
