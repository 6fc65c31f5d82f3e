"""The settings of `crema extract`; imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MODALITIES = ("depth", "flow", "normals")


class ExtractSettings(BaseModel):
    """Which experts look at which frames."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    modalities: tuple[Literal["depth", "flow", "normals"], ...] = Field(min_length=1, description="what is estimated")
    num_frames: int = Field(default=16, ge=1, description="frames per video, the middle ones of equal segments")
    fps: float | None = Field(default=None, gt=0, description="frames per second instead, at most num_frames of them")
    max_side: int = Field(default=512, ge=32, description="larger frames are made smaller first, in pixels")
    depth_model: str = Field(default="Intel/zoedepth-nyu-kitti", description="hub id or folder; the paper's by default")
    depth_revision: str | None = Field(default=None, description="commit of the hub id")
    depth_kind: Literal["metric", "relative"] | None = Field(
        default=None, description="whether the model gives metres or inverse depth; None: what its type is known for"
    )
    flow_model: Literal["raft_large", "raft_small", "unimatch"] = Field(
        default="raft_large", description="torchvision's RAFT; unimatch, the paper's, needs ptlflow and flow_weights"
    )
    flow_weights: str | None = Field(
        default=None, description="local file of its weights; None: torchvision's own, for RAFT"
    )
    flow_gap_s: float | None = Field(
        default=None, gt=0, description="seconds between the two frames of a pair; None: the next frame"
    )
    normals_model: str | None = Field(
        default=None, description="hub id or folder of a normals model; None: by differentiating the depth model's map"
    )
    normals_revision: str | None = Field(default=None, description="commit of the hub id")
    normals_axes: str = Field(default="x,y,z", description="the model's axes that are right, up and to the viewer")
    fov_deg: float = Field(
        default=60.0, gt=1, lt=179, description="horizontal field of view, where the depth model does not estimate it"
    )
    batch_size: int = Field(default=4, ge=1, description="frames per pass of an expert")
    device: str = Field(default="cpu", description="where the experts run: cpu, cuda, cuda:1")

    @model_validator(mode="after")
    def _modalities_once(self) -> ExtractSettings:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"each of {', '.join(MODALITIES)} is named once")
        return self

    def identity(self, modality: str) -> dict[str, Any]:
        """Return what decides the content of one modality's files."""
        common = {"num_frames": self.num_frames, "fps": self.fps, "max_side": self.max_side}
        depth = {key: getattr(self, key) for key in ("depth_model", "depth_revision", "depth_kind")}
        if modality == "depth":
            return common | depth
        if modality == "flow":
            return common | {key: getattr(self, key) for key in ("flow_model", "flow_weights", "flow_gap_s")}
        if self.normals_model is None:
            return common | depth | {"fov_deg": self.fov_deg}
        return common | {key: getattr(self, key) for key in ("normals_model", "normals_revision", "normals_axes")}
