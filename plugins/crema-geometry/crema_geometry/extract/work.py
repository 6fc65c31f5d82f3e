"""One video through the experts, and its files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crema_core.common.atomic import write_bytes
from crema_core.errors import AssetError, MediaError
from crema_geometry.experts.depth import DepthExpert
from crema_geometry.experts.flow import flow_expert
from crema_geometry.experts.normals import NormalsExpert, normals_from_depth
from crema_geometry.extract.frames import Frames, read_pairs
from crema_geometry.extract.settings import ExtractSettings


class Experts:
    """The experts some settings need, loaded once.

    Args:
        settings: which.

    Raises:
        AssetError: when one cannot be loaded, or normals would be derived from depth that is not metric.
    """

    def __init__(self, settings: ExtractSettings) -> None:
        self.settings = settings
        modalities, device = settings.modalities, settings.device
        derived = "normals" in modalities and settings.normals_model is None
        self.depth = (
            DepthExpert(settings.depth_model, revision=settings.depth_revision, kind=settings.depth_kind, device=device)
            if "depth" in modalities or derived
            else None
        )
        if derived and self.depth is not None and self.depth.kind == "relative":
            raise AssetError(
                f"Normals cannot be derived from '{settings.depth_model}', which gives relative depth. Derivation "
                "needs metres. Pass --normals-model, or a metric --depth-model such as Intel/zoedepth-nyu-kitti."
            )
        self.normals = (
            NormalsExpert(
                settings.normals_model,
                revision=settings.normals_revision,
                axes=settings.normals_axes,
                device=device,
            )
            if "normals" in modalities and settings.normals_model is not None
            else None
        )
        self.flow = (
            flow_expert(settings.flow_model, weights=settings.flow_weights, device=device)
            if "flow" in modalities
            else None
        )

    def look(self, frames: Frames, wanted: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
        """Estimate what is wanted.

        Returns:
            `depth` `(T, H, W)` float16 metres, `flow` `(T, H, W, 2)` float16 pixels right and down, `normals` `(T, H,
            W, 3)` float16 unit vectors, zero where unknown.

        Raises:
            MediaError: when motion is wanted of a single frame.
        """
        found: dict[str, NDArray[np.generic]] = {}
        size = self.settings.batch_size
        if self.depth is not None and ({"depth", "normals"} & set(wanted)):
            maps = self.depth(frames.frames, batch_size=size)
            if "depth" in wanted:
                found["depth"] = maps.metres.clamp(max=65_000).numpy().astype(np.float16)
            if "normals" in wanted and self.normals is None:
                fov = self.settings.fov_deg if maps.fov_deg is None else maps.fov_deg
                found["normals"] = normals_from_depth(maps.metres, fov_deg=fov).numpy().astype(np.float16)
        if self.normals is not None and "normals" in wanted:
            found["normals"] = self.normals(frames.frames, batch_size=size).numpy().astype(np.float16)
        if self.flow is not None and "flow" in wanted:
            if frames.pairs is None:
                raise MediaError("It has one frame, which shows no motion. Flow needs two. Leave flow out for it.")
            found["flow"] = self.flow(*frames.pairs, batch_size=size).numpy().astype(np.float16)
        return found


def extract_one(experts: Experts, source: str, targets: Mapping[str, str]) -> None:
    """Write the files of one video; each appears whole or not at all.

    Args:
        experts: loaded.
        source: the video.
        targets: modality -> file to write.

    Raises:
        MediaError: when the video cannot be read.
    """
    settings = experts.settings
    frames = read_pairs(
        source,
        num_frames=settings.num_frames,
        fps=settings.fps,
        gap_s=settings.flow_gap_s,
        max_side=settings.max_side,
    )
    times = {} if frames.times is None else {"times": frames.times.numpy()}
    for modality, values in experts.look(frames, tuple(targets)).items():
        packed = io.BytesIO()
        arrays: dict[str, Any] = {modality: values, **times}
        np.savez_compressed(packed, **arrays)
        write_bytes(Path(targets[modality]), packed.getvalue())
