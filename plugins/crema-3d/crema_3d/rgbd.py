"""RGB-D with poses and intrinsics: every pixel is put where it is in space, and what falls into one voxel is averaged.

The same averaging brings pixel-aligned 2D features into 3D (the idea of ConceptFusion), in the form 3D-LLM stores them.

Shape letters: V views, H W pixels, h w patches, P points, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crema_3d.values import as_native, near_origin
from crema_core.data.media import require_numbers
from crema_core.errors import MediaError

KEYS = ("depth", "intrinsics", "poses")
GRID = 256
"""Voxels per axis of stored 3D features."""


class Views(NamedTuple):
    """A scan.

    Attributes:
        depth: `(V, H, W)` float32 metres along the optical axis; 0 is unknown.
        intrinsics: `(V, 3, 3)` float32 pixels.
        poses: `(V, 4, 4)` float32, camera (x right, y down, z forward) to world.
        rgb: `(V, H, W, 3)` uint8, or None.
        features: `(V, h, w, C)` float32, or None.
    """

    depth: Tensor
    intrinsics: Tensor
    poses: Tensor
    rgb: Tensor | None
    features: Tensor | None


def is_scan(arrays: Mapping[Any, Any]) -> bool:
    """Return whether arrays describe RGB-D views."""
    return set(KEYS) <= set(arrays)


def read_views(arrays: Mapping[Any, Any], *, name: str, counts_per_metre: float = 1000.0) -> Views:
    """Check the arrays of a scan.

    Args:
        arrays: `depth` (V, H, W), whole numbers are counts; `intrinsics` (3, 3) or (V, 3, 3); `poses` (V, 4, 4);
            optionally `rgb` (V, H, W, 3) uint8 and `features` (V, h, w, C). Depth may have a channel dimension of 1 and
            rgb its colours before H; a single view may lack V. Poses in coordinates of a map are moved near the origin.
        name: what the message calls the source.
        counts_per_metre: of whole-number depth.

    Raises:
        MediaError: when shapes do not fit or poses are not finite (lost tracking).
    """
    given = {key: np.asarray(arrays[key]) for key in (*KEYS, "rgb", "features") if key in arrays}
    for key, values in given.items():
        require_numbers(values, name=f"{key} of {name}")
    parts = {key: torch.as_tensor(as_native(values)) for key, values in given.items()}
    if parts["depth"].dim() == 2 and parts["poses"].dim() == 2:  # one view without a dimension for views
        parts = {key: own if key == "intrinsics" else own[None] for key, own in parts.items()}
    depth = parts["depth"]
    if depth.dim() == 4 and 1 in (depth.shape[1], depth.shape[3]) and depth.shape[1] != depth.shape[3]:
        parts["depth"] = depth.squeeze(3) if depth.shape[3] == 1 else depth.squeeze(1)
    colors = parts.get("rgb")
    if colors is not None and colors.dim() == 4 and colors.shape[1] == 3 and colors.shape[3] != 3:
        parts["rgb"] = colors.movedim(1, 3)
    depth = parts["depth"]
    metres = depth.float() if depth.is_floating_point() else depth.float() / counts_per_metre
    intrinsics, poses = parts["intrinsics"].float(), _poses_near_origin(parts["poses"])
    if intrinsics.dim() == 2:
        intrinsics = intrinsics.expand(len(metres), -1, -1)
    rgb, features = parts.get("rgb"), parts.get("features")
    fits = (
        metres.dim() == 3
        and intrinsics.shape == (len(metres), 3, 3)
        and poses.shape == (len(metres), 4, 4)
        and (rgb is None or (rgb.shape == (*metres.shape, 3) and rgb.dtype == torch.uint8))
        and (features is None or (features.dim() == 4 and len(features) == len(metres)))
    )
    if not fits:
        found = ", ".join(f"{key} {tuple(value.shape)}" for key, value in parts.items())
        raise MediaError(
            f"{name} holds {found}. A scan is depth (V, H, W), intrinsics (3, 3) or (V, 3, 3), poses (V, 4, 4) and, "
            "optionally, rgb (V, H, W, 3) uint8 and features (V, h, w, C). Change the layout."
        )
    tracked = torch.isfinite(poses).all(dim=(1, 2))
    if not bool(tracked.any()):
        raise MediaError(
            f"{name} has no view with a finite pose. Views whose tracking was lost are left out, and none remains. "
            "Check the poses."
        )
    return Views(
        metres[tracked],
        intrinsics[tracked],
        poses[tracked],
        None if rgb is None else rgb[tracked],
        None if features is None else features[tracked].float(),
    )


def _poses_near_origin(poses_V44: Tensor) -> Tensor:
    """Return poses as float32, moved before they are rounded where they are in coordinates of a map."""
    rounded = poses_V44.float()
    if poses_V44.dim() == 3 and poses_V44.shape[1:] == (4, 4):
        tracked = torch.isfinite(poses_V44.double()).all(dim=(1, 2))
        moved = rounded.clone()
        moved[tracked, :3, 3] = near_origin(poses_V44[tracked, :3, 3])
        return moved
    return rounded


def unproject(depth_VHW: Tensor, intrinsics_V33: Tensor, poses_V44: Tensor) -> tuple[Tensor, Tensor]:
    """Put pixels into the world.

    Args:
        depth_VHW: `(V, H, W)` metres; 0, negative and not finite are unknown.
        intrinsics_V33: `(V, 3, 3)` pixels.
        poses_V44: `(V, 4, 4)` camera to world.

    Returns:
        points `(V, H, W, 3)` metres and a mask `(V, H, W)` of known ones.
    """
    height, width = depth_VHW.shape[1:]
    known = torch.isfinite(depth_VHW) & (depth_VHW > 0)
    depth = torch.where(known, depth_VHW, 0.0)
    column, row = torch.arange(width)[None, None, :], torch.arange(height)[None, :, None]
    focal_x, focal_y = (intrinsics_V33[:, axis, axis, None, None] for axis in (0, 1))
    center_x, center_y = (intrinsics_V33[:, axis, 2, None, None] for axis in (0, 1))
    camera = torch.stack([(column - center_x) / focal_x * depth, (row - center_y) / focal_y * depth, depth], dim=-1)
    rotated = torch.einsum("vij,vhwj->vhwi", poses_V44[:, :3, :3], camera)
    return rotated + poses_V44[:, None, None, :3, 3], known


def voxel_mean(points_P3: Tensor, values_PC: Tensor, *, size_m: float) -> tuple[Tensor, Tensor]:
    """Average what falls into one voxel.

    Args:
        points_P3: `(P, 3)` metres.
        values_PC: `(P, C)`.
        size_m: side of a voxel.

    Returns:
        mean positions `(K, 3)` and mean values `(K, C)`, in order of the voxels' places.
    """
    cells = (points_P3 / size_m).floor().to(torch.int64)
    _, owner, count = cells.unique(dim=0, return_inverse=True, return_counts=True)
    both = torch.cat([points_P3, values_PC], dim=1)
    sums = both.new_zeros(len(count), both.shape[1]).index_add_(0, owner, both)
    means = sums / count[:, None]
    return means[:, :3], means[:, 3:]


def fuse_colors(views: Views, *, size_m: float) -> tuple[Tensor, Tensor | None]:
    """Return the cloud of a scan: positions `(K, 3)` and colours `(K, 3)` in 0..1, or None without RGB.

    Raises:
        MediaError: when no pixel has a known depth.
    """
    points, known = unproject(views.depth, views.intrinsics, views.poses)
    xyz = _some(points[known])
    colors = xyz.new_zeros(len(xyz), 0) if views.rgb is None else views.rgb[known].float() / 255
    positions, means = voxel_mean(xyz, colors, size_m=size_m)
    return positions, None if views.rgb is None else means


def fuse_features(views: Views, *, size_m: float) -> tuple[Tensor, Tensor]:
    """Bring patch features into 3D: features `(K, C)` and voxel numbers `(K, 3)` int64 in 0..255, as 3D-LLM has them.

    A patch lies where its pixels' known depths are on average; the grid covers the scene's longest side.

    Raises:
        MediaError: when no patch has a known depth.
    """
    assert views.features is not None, "the caller checks"
    patches, seen = patch_places(views)
    positions = _some(patches[seen])
    places, means = voxel_mean(positions, views.features[seen], size_m=size_m)
    low = places.amin(dim=0)
    extent = float((places.amax(dim=0) - low).max().clamp(min=1e-6))
    return means, ((places - low) / extent * (GRID - 1)).round().to(torch.int64)


def patch_places(views: Views) -> tuple[Tensor, Tensor]:
    """Return the mean place of each patch's pixels with a depth, `(V, h, w, 3)`, and which have any, `(V, h, w)`."""
    assert views.features is not None, "the caller checks"
    points, known = unproject(views.depth, views.intrinsics, views.poses)
    weighted = torch.cat([points * known[..., None], known[..., None].float()], dim=-1).permute(0, 3, 1, 2)
    rows, columns = views.features.shape[1:3]
    pooled = torch.nn.functional.adaptive_avg_pool2d(weighted, (rows, columns)).permute(0, 2, 3, 1)
    seen = pooled[..., 3] > 0
    return torch.where(seen[..., None], pooled[..., :3] / pooled[..., 3:].clamp(min=1e-6), 0.0), seen


def _some(points_P3: Tensor) -> Tensor:
    if len(points_P3) == 0:
        raise MediaError(
            "The scan has no pixel with a known depth. Depth is metres, or whole-number counts, above 0. Check the "
            "depth maps."
        )
    return points_P3
