"""Read point clouds: positions with colours, or stored feature vectors with coordinates."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from crema_3d.clouds import (
    E57_SUFFIXES,
    PCD_SUFFIXES,
    TABLE_SUFFIXES,
    CloudError,
    CutCloudError,
    read_e57,
    read_pcd,
    read_table,
)
from crema_3d.ply import CutPlyError, PlyError, read_vertices
from crema_3d.rgbd import fuse_colors, fuse_features, is_scan, read_views
from crema_3d.survey import SUFFIXES as LAS_SUFFIXES
from crema_3d.survey import read_las
from crema_3d.values import as_native, named_points, near_origin, unit_colors
from crema_core.data.media import (
    ARRAY_SUFFIXES,
    check_file,
    content_of,
    damaged,
    is_cut,
    read_array,
    read_arrays,
    require_numbers,
    require_room,
    require_size,
    unreadable,
    wrong_source,
)
from crema_core.errors import MediaError

_Read = TypeVar("_Read")
WHAT = "a point cloud"
FEATURES = "a file of 3D features"
PLY_SUFFIXES = (".ply",)
SUFFIXES = (*PLY_SUFFIXES, *ARRAY_SUFFIXES, *LAS_SUFFIXES, *TABLE_SUFFIXES, *PCD_SUFFIXES, *E57_SUFFIXES)
FEATURE_SUFFIXES = (".npz", ".pt")
ONE_TENSOR = "Save the tensor alone, with torch.save(features, path)."
MEMORY = "a path, an array (N, 3) or (N, 6), or a dict with points and colors"
POINT_KEYS, COLOR_KEYS = ("points", "xyz"), ("colors", "colours", "rgb")


class Points(NamedTuple):
    """Points of one cloud.

    Attributes:
        xyz: `(N, 3)` float32 metres; coordinates of a map are moved near the origin before they are rounded.
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
        source: a `.ply`, `.npz`, `.npy`, `.xyz`, `.pts`, `.pcd`, `.las`, `.laz` or `.e57` file; an array `(N, 3)`,
            `(N, 6)` with colours last or `(N, 4)` with an intensity that is not used, or these transposed; an array
            with named columns x y z red green blue; a dict with `points` and, optionally, `colors`; an `.npz` or dict
            of RGB-D views (see `crema_3d.rgbd.read_views`), which are fused. Colours are 0..1, 0..255 or 0..65535.
        voxel_m: side of the voxels RGB-D views are fused in.
        counts_per_metre: of whole-number depth in RGB-D views.

    Raises:
        MediaError: when the source is absent, empty, damaged, of another type, or holds no or not finite points.
    """
    if isinstance(source, str | os.PathLike):
        path = check_file(source, what=WHAT, suffixes=SUFFIXES)
        for suffixes, reader in _READERS.items():
            if path.suffix.lower() in suffixes:
                return _checked(*reader(path), name=f"'{path}'")
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
    require_size(path)
    if zipfile.is_zipfile(path):  # its tensors may be stored compressed
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
            require_room(path, total, f"tensors of {total:,} bytes")
    try:
        features = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if content_of(path) == "a zip archive" and not is_cut(path):
            raise damaged(
                path,
                "it holds pickled objects, which are refused because they can run code (torch)",
                what=FEATURES,
                suffixes=FEATURE_SUFFIXES,
                advice=ONE_TENSOR,
            ) from error
        raise unreadable(
            path,
            error,
            library="torch",
            holds={"a zip archive"},
            what=FEATURES,
            suffixes=FEATURE_SUFFIXES,
            convert=ONE_TENSOR,
        ) from error
    if not isinstance(features, Tensor):
        cause = f"it holds a {type(features).__name__}"
        raise damaged(path, cause, what=FEATURES, suffixes=FEATURE_SUFFIXES, advice=ONE_TENSOR)
    return {"features": features, "coordinates": read_array(beside)}


def _read_ply(path: Path) -> tuple[Tensor, Tensor | None]:
    columns = _understood(path, read_vertices, holds={"a ply file"})
    found = named_points(columns)
    if found is None:
        raise MediaError(
            f"'{path}' has vertices with {', '.join(columns) or 'nothing'}. A point cloud has the properties x, y and "
            "z. Rename them, or save it with numpy.savez(path, points=..., colors=...)."
        )
    return found


def _understood(path: Path, reader: Callable[[Path], _Read], *, holds: set[str]) -> _Read:
    """Return what a reader of this package gives; what it refuses is cut short, damaged or of another type."""
    try:
        return reader(path)
    except (CutPlyError, CutCloudError) as error:
        raise damaged(path, f"it is cut short: {error}", what=WHAT, suffixes=SUFFIXES) from error
    except (PlyError, CloudError, MemoryError, OverflowError) as error:
        raise unreadable(
            path,
            error,
            library="",
            holds=holds,
            what=WHAT,
            suffixes=SUFFIXES,
            convert="Convert it to ply.",
        ) from error


_READERS: Mapping[tuple[str, ...], Callable[[Path], tuple[Tensor, Tensor | None]]] = {
    PLY_SUFFIXES: _read_ply,
    LAS_SUFFIXES: read_las,
    TABLE_SUFFIXES: lambda path: _understood(path, read_table, holds={"text"}),
    PCD_SUFFIXES: lambda path: _understood(path, read_pcd, holds={"a pcd file", "text"}),
    E57_SUFFIXES: read_e57,
}


def _from_mapping(arrays: Mapping[Any, Any], *, name: str) -> Points:
    values = _first(arrays, POINT_KEYS)
    if values is None:
        values = next(iter(arrays.values())) if len(arrays) == 1 else None
    if values is None:
        raise MediaError(
            f"{name} holds {', '.join(map(str, arrays)) or 'nothing'}. A point cloud has points (N, 3) or (N, 6) and, "
            "optionally, colors (N, 3). Save it with numpy.savez(path, points=..., colors=...)."
        )
    if isinstance(values, np.ndarray) and values.dtype.names is not None:
        found = named_points({column.lower(): values[column].ravel() for column in values.dtype.names})
        if found is not None:
            return _checked(*found, name=name)
    given = _first(arrays, COLOR_KEYS)
    points = _rows(_tensor(values, name=name))
    colors = None if given is None else _rows(_tensor(given, name=name))
    if points.ndim == 2 and points.shape[1] == 6 and colors is None:
        points, colors = points[:, :3], points[:, 3:]
    elif points.ndim == 2 and points.shape[1] == 4:
        points = points[:, :3]
    if colors is not None and colors.ndim == 2 and colors.shape[1] == 4:
        colors = colors[:, :3]
    return _checked(points, colors, name=name)


def _first(arrays: Mapping[Any, Any], keys: tuple[str, ...]) -> Any:
    return next((arrays[key] for key in keys if key in arrays), None)


def _rows(values: Tensor) -> Tensor:
    """Return one point per row: a batch of one is opened, and columns of points, as networks take them, are turned."""
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    turned = values.ndim == 2 and values.shape[0] in (3, 6) and values.shape[1] not in (3, 4, 6)
    return values.T if turned else values


def _checked(xyz: Tensor, rgb: Tensor | None, *, name: str) -> Points:
    fits = xyz.ndim == 2 and xyz.shape[1:] == (3,) and len(xyz) > 0 and (rgb is None or rgb.shape == xyz.shape)
    if not fits or not bool(torch.isfinite(xyz.float()).all()):
        shapes = f"{tuple(xyz.shape)}" + ("" if rgb is None else f" with colours {tuple(rgb.shape)}")
        raise MediaError(
            f"{name} has points {shapes}. A point cloud has at least one point, finite x y z (N, 3) and as many "
            "colours. Remove broken points, or change the layout."
        )
    return Points(near_origin(xyz), None if rgb is None else unit_colors(rgb, name=name))


def _tensor(values: Any, *, name: str) -> Tensor:
    if isinstance(values, np.ndarray):
        require_numbers(values, name=name)
        values = np.ascontiguousarray(as_native(values))
    return torch.as_tensor(values).detach().cpu()
