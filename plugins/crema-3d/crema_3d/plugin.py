"""What the point-cloud modality declares; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crema_core.plugins.spec import Asset, InputSpec, ModalityOptions, ModalitySpec

NUM_OCTAVES = 6
PLACE_DIM = 3 + 3 * 2 * NUM_OCTAVES
"""Width of a position: x y z, their sine and cosine in six octaves."""
FOURIER_DIM = PLACE_DIM + 4
"""Width of a point: its position, red green blue, 1 where it has a colour."""
POINT_BERT_DIM = 384
"""Width of the released Point-BERTs' tokens."""


class PointCloudOptions(ModalityOptions):
    """How point clouds are read."""

    encoder: Literal["fourier", "pointbert", "features", "views"] | None = Field(
        default=None,
        description="fourier: position and colour of every point, no parameters; pointbert: groups of points through "
        "a frozen Point-BERT of ULIP-2; features: vectors stored in the file (3D-LLM style) with their coordinates; "
        "views: stored features of RGB-D views, a step per view, every patch with its place; None: features, the "
        "paper's, on a pretrained backbone, fourier on a tiny one",
    )
    weights: str | None = Field(
        default=None, description="pointbert: file of a ULIP checkpoint, its folder, or OWNER/NAME/FILE on the hub"
    )
    revision: str | None = Field(
        default=None, description="pointbert: commit, tag or branch on the hub; None: the latest"
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-fA-F]{64}$",
        description="pointbert: digest the file of weights must have; None: any",
    )
    num_points: int = Field(
        default=1024,
        ge=1,
        description="most points kept; a larger cloud is sampled, always alike; ULIP-2 was trained with 10000",
    )
    num_groups: int = Field(default=512, ge=1, description="pointbert: most groups, each of which is a token")
    group_size: int = Field(default=32, ge=1, description="pointbert: points of a group")
    extent_m: float = Field(
        default=4.0, gt=0, description="fourier, pointbert, views: metres that become 1; positions are not clipped"
    )
    center: bool = Field(default=False, description="fourier: move the middle to 0, which hides where the viewer is")
    voxel_m: float = Field(
        default=0.02, gt=0, description="side in metres of the voxels in which RGB-D views are fused"
    )
    counts_per_metre: float = Field(default=1000.0, gt=0, description="what whole-number depth of RGB-D views counts")
    num_views: int = Field(default=32, ge=1, description="views: most views kept, evenly over the scan")
    feature_dim: int = Field(default=1408, ge=4, description="features, views: width of the stored vectors")
    coordinate_scale: float = Field(
        default=0.01, ge=0, description="features: factor of the coordinate encoding added to them (CREMA's 0.01)"
    )

    @model_validator(mode="after")
    def _one_file(self) -> PointCloudOptions:
        if self.sha256 is not None and self.encoder not in ("pointbert", None):
            raise ValueError(
                f"sha256 is for weights of one file, those of encoder='pointbert', and encoder='{self.encoder}' was "
                "chosen; a hub id is pinned by revision"
            )
        return self


def chosen_options(options: PointCloudOptions, *, pretrained: bool) -> PointCloudOptions:
    """Return the options with an encoder: the paper's for a pretrained backbone, bare positions for a tiny one."""
    if options.encoder is not None:
        return options
    return options.model_copy(update={"encoder": "features" if pretrained else "fourier"})


SPEC = ModalitySpec(
    name="pointcloud",
    released_name="pc",
    summary="Coloured points or precomputed 3D features, in the viewer's frame.",
    factory="crema_3d.modality:PointCloudModality",
    options=PointCloudOptions,
    test_options=(
        PointCloudOptions(num_points=32),
        PointCloudOptions(num_points=32, center=True),
        PointCloudOptions(encoder="views", feature_dim=8),
    ),
    inputs=(
        InputSpec(kind="points", suffixes=(".ply",), description="x y z in metres, colours optional; text or binary"),
        InputSpec(kind="array", suffixes=(".npz", ".npy"), description="`points` (N, 3) or (N, 6), `colors` optional"),
        InputSpec(kind="features", suffixes=(".npz",), description="`features` (N, D), `coordinates` (N, 3) in 0..255"),
        InputSpec(kind="points", suffixes=(".las", ".laz"), description="laser scans; needs laspy"),
        InputSpec(kind="points", suffixes=(".xyz", ".pts"), description="text, a point per row, colours optional"),
        InputSpec(kind="points", suffixes=(".pcd",), description="Point Cloud Library: ascii, binary or compressed"),
        InputSpec(kind="points", suffixes=(".e57",), description="scans, each put in its place; needs pye57"),
        InputSpec(
            kind="scan",
            suffixes=(".npz",),
            description="RGB-D: depth (V, H, W), intrinsics, poses (V, 4, 4), rgb; or features (V, h, w, D)",
        ),
        InputSpec(
            kind="features", suffixes=(".pt",), description="3D-LLM: vectors, voxel numbers in the .npy beside it"
        ),
    ),
    encoder="own",
    feature_dim=FOURIER_DIM,
    assets=(
        Asset(
            id="ULIP-2-PointBERT-10k-colored-pc-pretrained.pt",
            license="BSD-3-Clause (code); of the weights see the page",
            url="https://github.com/salesforce/ULIP",
        ),
    ),
    prefix="3D Model: ",
)
