"""Surface directions: by a model, or from metric depth by differentiation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import AutoModelForNormalEstimation

from crema_core.errors import OptionsError
from crema_core.model.pretrained import load_frozen
from crema_geometry.experts.processor import load_processor

AXES = ("x", "-x", "y", "-y", "z", "-z")


class NormalsExpert:
    """A normal-estimation model of transformers, for example `google/tipsv2-b14-dpt`.

    Args:
        source: hub id or folder.
        revision: commit, tag or branch on the hub.
        axes: which of the model's axes point right, up and to the viewer: "x,y,z", or "x,-y,-z" for a model that
            counts down and away as positive.
        device: where it runs.
    """

    def __init__(self, source: str, *, revision: str | None = None, axes: str = "x,y,z", device: str = "cpu") -> None:
        self.axes = parse_axes(axes)
        self.model = load_frozen(AutoModelForNormalEstimation, source, revision=revision).to(device)  # type: ignore[arg-type]
        self.processor = load_processor(source, revision=revision)
        self.device = device

    @torch.no_grad()
    def __call__(self, frames_TCHW: Tensor, *, batch_size: int = 4) -> Tensor:
        """Estimate directions.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8.
            batch_size: frames per pass.

        Returns:
            `(T, H, W, 3)` unit vectors: right, up, to the viewer.
        """
        sizes = tuple(frames_TCHW.shape[-2:])
        maps: list[Tensor] = []
        for part in frames_TCHW.split(batch_size):
            inputs = self.processor(images=list(part), return_tensors="pt").to(self.device)
            outputs = self.model(**inputs)
            results = self.processor.post_process_normal_estimation(outputs, target_sizes=[sizes] * len(part))
            maps += [result["normals"].float().cpu() for result in results]
        normals_TCHW = torch.nn.functional.normalize(torch.stack(maps), dim=1)
        picked = [sign * normals_TCHW[:, index] for index, sign in self.axes]
        return torch.stack(picked, dim=-1)


def parse_axes(text: str) -> list[tuple[int, int]]:
    """Return which channel, and with which sign, is right, up and to the viewer.

    >>> parse_axes("x,-y,-z")
    [(0, 1), (1, -1), (2, -1)]

    Raises:
        OptionsError: unless each axis is named once.
    """
    names = [name.strip() for name in text.split(",")]
    if sorted(name.lstrip("-") for name in names) != ["x", "y", "z"] or not set(names) <= set(AXES):
        raise OptionsError(
            f"axes='{text}' does not say what is right, up and to the viewer. Accepted: x, y and z once each, with a "
            "minus where the model's axis points the other way. Write x,y,z or x,-y,-z."
        )
    return [("xyz".index(name.lstrip("-")), -1 if name.startswith("-") else 1) for name in names]


def normals_from_depth(metres_THW: Tensor, *, fov_deg: float | Tensor) -> Tensor:
    """Differentiate the surface that metric depth describes.

    Every pixel is put where it is in space (pinhole, square pixels, centre in the middle); the direction is the cross
    product of the steps to its neighbours. Exact on planes.

    Args:
        metres_THW: `(T, H, W)`; 0, negative and not finite mean unknown.
        fov_deg: horizontal field of view in degrees, one or `(T,)`.

    Returns:
        `(T, H, W, 3)` unit vectors: right, up, to the viewer; a zero vector where a neighbour is unknown.
    """
    height, width = metres_THW.shape[-2:]
    known = torch.isfinite(metres_THW) & (metres_THW > 0)
    depth = torch.where(known, metres_THW, 0.0)
    half = torch.deg2rad(torch.as_tensor(fov_deg, dtype=torch.float32) / 2).reshape(-1, 1, 1)
    focal_px = width / 2 / torch.tan(half)  # (1 or T, 1, 1)
    right = (torch.arange(width) - (width - 1) / 2)[None, None, :]
    up = -(torch.arange(height) - (height - 1) / 2)[None, :, None]
    points = torch.stack([right / focal_px * depth, up / focal_px * depth, -depth], dim=-1)  # (T, H, W, 3)
    across = _step(points, dim=2)
    upwards = -_step(points, dim=1)
    normals = torch.nn.functional.normalize(torch.cross(across, upwards, dim=-1), dim=-1)
    sure = known & _neighbours(known, dim=1) & _neighbours(known, dim=2)
    return normals * sure[..., None]


def _step(values: Tensor, dim: int) -> Tensor:
    """Central differences, one-sided at the edges; zero along a dimension of one."""
    size = values.shape[dim]
    after = torch.arange(1, size + 1).clamp(max=size - 1)
    before = torch.arange(-1, size - 1).clamp(min=0)
    return values.index_select(dim, after) - values.index_select(dim, before)


def _neighbours(known: Tensor, dim: int) -> Tensor:
    size = known.shape[dim]
    after = torch.arange(1, size + 1).clamp(max=size - 1)
    before = torch.arange(-1, size - 1).clamp(min=0)
    return known.index_select(dim, after) & known.index_select(dim, before)


def horizontal_fov_deg(focal_px: float, width: int) -> float:
    """Return the horizontal field of view of a camera in degrees.

    >>> round(horizontal_fov_deg(320.0, 640))
    90
    """
    return math.degrees(2 * math.atan(width / 2 / focal_px))
