"""Read point clouds: positions with colours, or stored feature vectors with coordinates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor

from crema_3d.rgbd import fuse_colors, fuse_features, is_scan, read_views
from crema_3d.survey import SUFFIXES as LAS_SUFFIXES
from crema_3d.survey import read_las
from crema_core.data.media import (
    ARRAY_SUFFIXES,
    check_file,
    damaged,
    read_array,
    read_arrays,
    require_numbers,
    wrong_source,
)
from crema_core.errors import MediaError

WHAT = "a point cloud"
FEATURES = "a file of 3D features"
SUFFIXES = (".ply", *ARRAY_SUFFIXES, ".las", ".laz")
FEATURE_SUFFIXES = (".npz", ".pt")
MEMORY = "a path, an array (N, 3) or (N, 6), or a dict with points and colors"


class Points(NamedTuple):
    """Points of one cloud.

    Attributes:
        xyz: `(N, 3)` float32 metres.
        rgb: `(N, 3)` float32 in 0..1, or None.
    """

    xyz: Tensor
    rgb: Tensor | None


class StoredFeatures(NamedTuple):
    """Feature vectors `(N, D)` float32 and their voxel coordinates `(N, 3)` int64."""

    features: Tensor
    coordinates: Tensor


def read_points(source: object, *, voxel_m: float = 0.02, counts_per_metre: float = 1000.0) -> Points:
    """Read positions and colours.

    Args:
        source: a `.ply`, `.npz` or `.npy` file, an array `(N, 3)` or `(N, 6)` (colours last, 0..255 or 0..1), or a dict
            with `points` and, optionally, `colors`; a `.las` or `.laz` file; an `.npz` or dict of RGB-D views (see
            `crema_3d.rgbd.read_views`), which are fused.
        voxel_m: side of the voxels RGB-D views are fused in.
        counts_per_metre: of whole-number depth in RGB-D views.

    Raises:
        MediaError: when the source is absent, empty, damaged, of another type, or holds no or not finite points.
    """
    if isinstance(source, str | os.PathLike):
        path = check_file(source, what=WHAT, suffixes=SUFFIXES)
        if path.suffix.lower() == ".ply":
            return _checked(*_read_ply(path), name=f"'{path}'")
        if path.suffix.lower() in LAS_SUFFIXES:
            return _checked(*read_las(path), name=f"'{path}'")
        arrays, name = read_arrays(path), f"'{path}'"
    elif isinstance(source, Mapping):
        arrays, name = dict(source), "The dict"
    else:
        arrays, name = {}, ""
    if is_scan(arrays):
        views = read_views(arrays, name=name, counts_per_metre=counts_per_metre)
        return _checked(*fuse_colors(views, size_m=voxel_m), name=name)
    if name:
        return _from_mapping(arrays, name=name)
    if isinstance(source, np.ndarray | Tensor):
        return _from_mapping({"": source}, name="The array")
    raise wrong_source(source, what=WHAT, accepted=MEMORY, advice="Pass one of these.")


def read_features(
    source: object, *, feature_dim: int, voxel_m: float = 0.02, counts_per_metre: float = 1000.0
) -> StoredFeatures:
    """Read stored vectors and coordinates.

    Args:
        source: an `.npz` or dict with `features` and `coordinates`; a `.pt` file of 3D-LLM, whose coordinates are in
            the `.npy` of the same name beside it; or RGB-D views with pixel-aligned `features`, which are fused.
        feature_dim: width of the vectors.
        voxel_m: side of the voxels RGB-D views are fused in.
        counts_per_metre: of whole-number depth in RGB-D views.

    Raises:
        MediaError: when the source is absent, damaged, of another type, or has other widths or coordinates.
    """
    if isinstance(source, str | os.PathLike):
        path, name = check_file(source, what=FEATURES, suffixes=FEATURE_SUFFIXES), f"'{source}'"
        arrays = _read_3d_llm(path) if path.suffix.lower() == ".pt" else read_arrays(path)
    elif isinstance(source, Mapping):
        arrays, name = dict(source), "The dict"
    else:
        accepted = "a path, or a dict with features and coordinates"
        raise wrong_source(source, what="a set of 3D features", accepted=accepted, advice="Pass one of these.")
    if is_scan(arrays) and "features" in arrays:
        views = read_views(arrays, name=name, counts_per_metre=counts_per_metre)
        fused, places = fuse_features(views, size_m=voxel_m)
        arrays = {"features": fused, "coordinates": places}
    if not {"features", "coordinates"} <= set(arrays):
        raise MediaError(
            f"{name} holds {', '.join(map(str, arrays)) or 'nothing'}. 3D features come as features (N, {feature_dim}) "
            "and coordinates (N, 3). Save both with numpy.savez(path, features=..., coordinates=...)."
        )
    features, coordinates = (_tensor(arrays[key], name=name) for key in ("features", "coordinates"))
    legal = features.ndim == 2 and features.shape[1] == feature_dim and coordinates.shape == (len(features), 3)
    if not legal or len(features) == 0:
        raise MediaError(
            f"{name} holds features {tuple(features.shape)} and coordinates {tuple(coordinates.shape)}. Accepted are "
            f"(N, {feature_dim}) and (N, 3). Set the option feature_dim to the stored width, or change the layout."
        )
    if not bool(((coordinates >= 0) & (coordinates <= 255)).all()):
        raise MediaError(
            f"{name} has coordinates from {float(coordinates.min()):g} to {float(coordinates.max()):g}. They are voxel "
            "numbers in 0..255 per axis, as 3D-LLM stores them. Scale the scene to that grid first."
        )
    return StoredFeatures(features.float(), coordinates.long())


def _read_3d_llm(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".npy")
    if not beside.is_file():
        raise MediaError(
            f"'{path}' has no '{beside.name}' beside it. 3D-LLM stores vectors in .pt and their voxel numbers in an "
            ".npy of the same name. Put both into one folder."
        )
    try:
        features = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(features, Tensor):
            raise TypeError(f"it holds a {type(features).__name__}")
    except Exception as error:
        raise damaged(path, "it is not a file of one tensor", what=FEATURES, suffixes=FEATURE_SUFFIXES) from error
    return {"features": features, "coordinates": read_array(beside)}


def _read_ply(path: Path) -> tuple[Tensor, Tensor | None]:
    try:
        loaded: Any = trimesh.load(path, process=False)
        xyz = np.asarray(loaded.vertices, dtype=np.float32)
        colored = loaded.visual.kind == "vertex" and len(loaded.visual.vertex_colors) == len(xyz)
        rgb = np.array(loaded.visual.vertex_colors[:, :3]) if colored else None
    except Exception as error:
        raise damaged(path, "it is not a complete ply file", what=WHAT, suffixes=SUFFIXES) from error
    return torch.from_numpy(xyz), None if rgb is None else torch.from_numpy(rgb)


def _from_mapping(arrays: Mapping[Any, Any], *, name: str) -> Points:
    values = arrays.get("points", next(iter(arrays.values())) if len(arrays) == 1 else None)
    if values is None:
        raise MediaError(
            f"{name} holds {', '.join(map(str, arrays)) or 'nothing'}. A point cloud has points (N, 3) or (N, 6) and, "
            "optionally, colors (N, 3). Save it with numpy.savez(path, points=..., colors=...)."
        )
    points = _tensor(values, name=name)
    colors = _tensor(arrays["colors"], name=name) if "colors" in arrays else None
    if points.ndim == 2 and points.shape[1] == 6 and colors is None:
        points, colors = points[:, :3], points[:, 3:]
    return _checked(points, colors, name=name)


def _checked(xyz: Tensor, rgb: Tensor | None, *, name: str) -> Points:
    fits = xyz.ndim == 2 and xyz.shape[1:] == (3,) and len(xyz) > 0 and (rgb is None or rgb.shape == xyz.shape)
    if not fits or not bool(torch.isfinite(xyz.float()).all()):
        shapes = f"{tuple(xyz.shape)}" + ("" if rgb is None else f" with colours {tuple(rgb.shape)}")
        raise MediaError(
            f"{name} has points {shapes}. A point cloud has at least one point, finite x y z (N, 3) and as many "
            "colours. Remove broken points, or change the layout."
        )
    if rgb is not None:
        as_bytes = not rgb.is_floating_point() or float(rgb.max()) > 1
        rgb = rgb.float() / 255 if as_bytes else rgb.float()
    return Points(xyz.float(), rgb)


def _tensor(values: Any, *, name: str) -> Tensor:
    if isinstance(values, np.ndarray):
        require_numbers(values, name=name)
    return torch.as_tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values).detach().cpu()
