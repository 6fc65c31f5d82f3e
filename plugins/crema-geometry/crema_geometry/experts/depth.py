"""Depth from single frames by any depth-estimation model of transformers."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForDepthEstimation

from crema_core.errors import AssetError
from crema_core.model.pretrained import load_frozen
from crema_geometry.experts.processor import load_processor

METRIC = frozenset({"zoedepth", "depth_pro", "glpn", "prompt_depth_anything", "tipsv2_dpt"})
"""Model types whose output is metres; `depth_anything` states so itself."""
RELATIVE = frozenset({"dpt", "depth_anything"})
"""Model types whose output is inverse depth up to scale and shift."""
NEAR_M, FAR_M = 0.5, 10.0
"""Where relative depth is put: the 98th and 2nd percentile of a clip's inverse depth."""

Kind = Literal["metric", "relative"]


class DepthMaps(NamedTuple):
    """What the expert says.

    Attributes:
        metres: `(T, H, W)`; of a relative model only the order is known, see `place_relative`.
        fov_deg: `(T,)` horizontal field of view where the model estimates it, or None.
    """

    metres: Tensor
    fov_deg: Tensor | None


class DepthExpert:
    """A depth model.

    Args:
        source: hub id or folder; the paper's is `Intel/zoedepth-nyu-kitti`.
        revision: commit, tag or branch on the hub.
        kind: "metric" or "relative"; None: what is known of the model type.
        device: where it runs.

    Raises:
        AssetError: when it cannot be loaded, or its kind is not known and not given.
    """

    def __init__(
        self, source: str, *, revision: str | None = None, kind: Kind | None = None, device: str = "cpu"
    ) -> None:
        self.model = load_frozen(AutoModelForDepthEstimation, source, revision=revision).to(device)  # type: ignore[arg-type]
        self.processor = load_processor(source, revision=revision)
        self.kind: Kind = kind or _kind(self.model.config, source)
        self.device = device

    @torch.no_grad()
    def __call__(self, frames_TCHW: Tensor, *, batch_size: int = 4) -> DepthMaps:
        """Estimate.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8.
            batch_size: frames per pass.
        """
        size = tuple(frames_TCHW.shape[-2:])
        maps: list[Tensor] = []
        views: list[Tensor] = []
        for part in frames_TCHW.split(batch_size):
            inputs = self.processor(images=list(part), return_tensors="pt").to(self.device)
            outputs = self.model(**inputs)
            sizes = [size] * len(part)
            if self.model.config.model_type == "zoedepth":  # its processor pads, and has to know what to cut away
                results = self.processor.post_process_depth_estimation(outputs, source_sizes=sizes, target_sizes=sizes)
            else:
                results = self.processor.post_process_depth_estimation(outputs, target_sizes=sizes)
            maps += [result["predicted_depth"].float().cpu() for result in results]
            views += [result["field_of_view"].float().cpu() for result in results if "field_of_view" in result]
        depth_THW = torch.stack(maps)
        fov_T = torch.stack(views).flatten().clamp(1, 179) if len(views) == len(maps) else None
        if self.kind == "relative":
            return DepthMaps(place_relative(depth_THW), fov_T)
        return DepthMaps(depth_THW.clamp(min=0), fov_T)


def place_relative(inverse_THW: Tensor) -> Tensor:
    """Turn inverse depth of unknown scale and shift into distances in NEAR_M..FAR_M that keep the order.

    One scale for all frames of a clip, so that what comes nearer looks nearer.

    Args:
        inverse_THW: `(T, H, W)`, large is near.

    Returns:
        `(T, H, W)` pseudo-metres.
    """
    ordered = inverse_THW.flatten().sort().values
    low, high = float(ordered[round(0.02 * (len(ordered) - 1))]), float(ordered[round(0.98 * (len(ordered) - 1))])
    nearness = ((inverse_THW - low) / max(high - low, 1e-6)).clamp(0, 1)
    return 1 / (1 / FAR_M + nearness * (1 / NEAR_M - 1 / FAR_M))


def _kind(config: object, source: str) -> Kind:
    model_type = str(getattr(config, "model_type", ""))
    if getattr(config, "depth_estimation_type", None) == "metric" or model_type in METRIC:
        return "metric"
    if model_type in RELATIVE:
        return "relative"
    raise AssetError(
        f"It is not known whether '{source}' ('{model_type}') gives metres or inverse depth. Known: "
        f"{', '.join(sorted(METRIC | RELATIVE))}. Pass --depth-kind metric or --depth-kind relative."
    )
