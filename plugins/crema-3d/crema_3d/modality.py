"""The point-cloud sense: every point, or every stored 3D feature, is one token; there is no time (T = 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_3d.drawing import draw_points, principal_colors
from crema_3d.encoding import encode_coordinates, fourier
from crema_3d.files import read_features, read_points
from crema_3d.plugin import FOURIER_DIM, SPEC, PointCloudOptions
from crema_core.modality import Batch, Features, Modality, Sample


class PointCloudModality(Modality):
    """Points in the viewer's frame: what lies behind the viewer keeps its sign, unless `center` is set."""

    spec = SPEC
    options: PointCloudOptions

    @property
    def feature_dim(self) -> int:
        """Width of a token: 43 for points, the option's for stored features."""
        return FOURIER_DIM if self.options.encoder == "fourier" else self.options.feature_dim

    def prepare(self, source: object) -> Sample:
        """Read a cloud and keep at most `num_points`, always the same ones.

        Args:
            source: see `crema_3d.files.read_points` and, for stored features, `read_features`.

        Returns:
            `points` `(1, n, 7)` (x y z scaled, red green blue in -1..1, 1 where coloured), or `features` `(1, n, D)`
            and `coordinates` `(1, n, 3)`; with each `valid` `(1, n)`, which padding leaves False.

        Raises:
            MediaError: when the source is absent, empty, damaged or of another type.
        """
        options = self.options
        if options.encoder == "features":
            stored = read_features(source, feature_dim=options.feature_dim)
            kept = choose_points(len(stored.features), options.num_points)
            return _sample(features=stored.features[kept], coordinates=stored.coordinates[kept])
        cloud = read_points(source)
        kept = choose_points(len(cloud.xyz), options.num_points)
        xyz = cloud.xyz - cloud.xyz.mean(dim=0) if options.center else cloud.xyz
        rgb = torch.zeros_like(xyz) if cloud.rgb is None else 2 * cloud.rgb - 1  # as large as the sines
        colored = torch.full((len(xyz), 1), float(cloud.rgb is not None))
        return _sample(points=torch.cat([xyz / options.extent_m, rgb, colored], dim=1)[kept])

    def encode(self, batch: Batch) -> Features:
        """Encode every point: `(B, 1, N, 7)` -> `(B, 1, N, 43)`, or stored features with their coordinates added."""
        mask = batch["valid"]
        if self.options.encoder == "fourier":
            points = batch["points"]
            values = torch.cat([fourier(points[..., :3]), points[..., 3:]], dim=-1)
        else:
            places = encode_coordinates(batch["coordinates"], self.options.feature_dim)
            values = batch["features"] + self.options.coordinate_scale * places
        return Features(values * mask[..., None], mask)

    def show(self, source: object) -> Tensor:
        """Return the points that are kept, seen from above, from behind the viewer and from the side."""
        options = self.options
        if options.encoder == "features":
            stored = read_features(source, feature_dim=options.feature_dim)
            kept = choose_points(len(stored.features), options.num_points)
            return draw_points(stored.coordinates[kept].float(), principal_colors(stored.features[kept]), unit="voxels")
        cloud = read_points(source)
        kept = choose_points(len(cloud.xyz), options.num_points)
        return draw_points(cloud.xyz[kept], None if cloud.rgb is None else cloud.rgb[kept])

    def example(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return 50 coloured points around the viewer, or 20 stored features."""
        if self.options.encoder == "features":
            features = torch.randn(20, self.options.feature_dim, generator=generator)
            return {"features": features, "coordinates": torch.randint(0, 256, (20, 3), generator=generator)}
        points = 3 * torch.randn(50, 3, generator=generator)
        return {"points": points, "colors": torch.rand(50, 3, generator=generator)}


def choose_points(num_available: int, num_wanted: int) -> Tensor:
    """Return the numbers of the points kept, ascending: all, or a random subset that depends on the two counts only."""
    if num_available <= num_wanted:
        return torch.arange(num_available)
    generator = torch.Generator().manual_seed(num_available)
    return torch.randperm(num_available, generator=generator)[:num_wanted].sort().values


def _sample(**tensors: Tensor) -> Sample:
    """Add the time dimension and the mask of real points."""
    count = len(next(iter(tensors.values())))
    return Sample({**{name: t[None] for name, t in tensors.items()}, "valid": torch.ones(1, count, dtype=torch.bool)})
