"""The point-cloud modality: every point, group of points or stored 3D feature is one token.

There is no time (T = 1), but for the views of a scan (T = V).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from crema_3d.drawing import ALIKE, draw_points, principal_colors
from crema_3d.encoding import encode_coordinates, fourier
from crema_3d.files import read_features, read_points
from crema_3d.groups import group_points
from crema_3d.plugin import (
    FOURIER_DIM,
    PLACE_DIM,
    POINT_BERT_DIM,
    SPEC,
    PointCloudOptions,
    chosen_options,
)
from crema_3d.pointbert import PointBert, released_shapes
from crema_3d.views import ViewTokens, read_view_tokens
from crema_3d.weights import load_point_bert
from crema_core.data.media import doubt, name_of
from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample

MUCH_LARGER, MUCH_SMALLER = 10.0, 100.0
"""A cloud so many times wider or narrower than the metres that become 1 looks to be in another unit."""
MANY_M = 1000.0
"""So wide is a survey, or a room in millimetres."""
MOST_MEASURED = 100_000


class PointCloudModality(Modality):
    """Points in the viewer's frame: what lies behind the viewer keeps its sign, unless `center` is set."""

    spec = SPEC
    options: PointCloudOptions

    def __init__(self, options: PointCloudOptions, context: BuildContext) -> None:
        super().__init__(chosen_options(options, pretrained=context.pretrained), context)
        self.model: PointBert | None = None

    @property
    def feature_dim(self) -> int:
        """Width of a token: 43 for points, the encoder's and 39 for groups, the option's for features, views + 40."""
        if self.options.encoder == "pointbert":
            return PLACE_DIM + (POINT_BERT_DIM if self.model is None else self.model.feature_dim)
        stored = self.options.feature_dim
        assert self.options.encoder is not None, "chosen_options fills it in"
        return {"fourier": FOURIER_DIM, "features": stored, "views": stored + PLACE_DIM + 1}[self.options.encoder]

    def load_assets(self, folder: Path | None) -> None:
        """Load the weights of an encoder that has some.

        Raises:
            AssetError: when they cannot be had or are another model's.
        """
        if self.options.encoder == "pointbert":
            self.model = load_point_bert(
                self.options.weights, revision=self.options.revision, sha256=self.options.sha256
            ).to(self.context.dtype)

    def load_shapes(self) -> None:
        """Build an encoder of the released sizes without weights, to count it."""
        if self.options.encoder == "pointbert":
            self.model = PointBert(released_shapes()).to(self.context.dtype).eval()

    def prepare(self, source: object) -> Sample:
        """Read a cloud and keep at most `num_points`, always the same ones.

        Args:
            source: see `crema_3d.files.read_points` and, for stored features, `read_features`.

        Returns:
            `points` `(1, n, 7)` (x y z scaled, red green blue in -1..1, 1 where coloured), or `features` `(1, n, D)`
            and `coordinates` `(1, n, 3)`, or `points` `(1, G, K, 6)`, `centers` and `places` `(1, G, 3)` (see
            `crema_3d.groups`); with each `valid` `(1, n or G)`, which padding leaves False. Views: `features`
            `(V, h*w, D)`, `places` `(V, h*w, 3)` metres, `known` and `valid` `(V, h*w)`.

        Raises:
            MediaError: when the source is absent, empty, damaged or of another type.
        """
        options = self.options
        if options.encoder == "views":
            patches = self._views(source)
            self._doubt_size(patches.places[patches.known], source)
            return Sample({**patches._asdict(), "valid": torch.ones_like(patches.known)})
        if options.encoder == "features":
            stored = read_features(source, feature_dim=options.feature_dim, **self._scan())
            kept = choose_points(len(stored.features), options.num_points)
            return _sample(features=stored.features[kept], coordinates=stored.coordinates[kept])
        cloud = read_points(source, **self._scan())
        self._doubt_size(cloud.xyz, source)
        kept = choose_points(len(cloud.xyz), options.num_points)
        xyz, rgb = cloud.xyz[kept], None if cloud.rgb is None else cloud.rgb[kept]
        if options.center:
            xyz = xyz - cloud.xyz.mean(dim=0)
        if options.encoder == "pointbert":
            groups = group_points(xyz, rgb, num_groups=options.num_groups, group_size=options.group_size)
            return _sample(**groups._asdict())
        colors = torch.zeros_like(xyz) if rgb is None else 2 * rgb - 1  # as large as the sines
        colored = torch.full((len(xyz), 1), float(rgb is not None))
        return _sample(points=torch.cat([xyz / options.extent_m, colors, colored], dim=1))

    def encode(self, batch: Batch) -> Features:
        """Encode every point, `(B, 1, N, 7)` -> `(B, 1, N, 43)`, every group, or stored features with their places."""
        mask = batch["valid"]
        if self.options.encoder == "pointbert":
            return self._encode_groups(batch)
        if self.options.encoder == "fourier":
            points = batch["points"]
            values = torch.cat([fourier(points[..., :3]), points[..., 3:]], dim=-1)
        elif self.options.encoder == "views":
            known = batch["known"][..., None]
            places = fourier(batch["places"] / self.options.extent_m) * known
            values = torch.cat([batch["features"], places, known.to(places)], dim=-1)
        else:
            places = encode_coordinates(batch["coordinates"], self.options.feature_dim)
            values = batch["features"] + self.options.coordinate_scale * places
        return Features(values * mask[..., None], mask)

    def _encode_groups(self, batch: Batch) -> Features:
        """Return a token for the whole cloud and one per group, followed by where it is in the viewer's frame."""
        assert self.model is not None, "load_assets reads the weights"
        points, centers, places, valid = (batch[key].squeeze(1) for key in ("points", "centers", "places", "valid"))
        tokens = self.model(points.to(self.context.dtype), centers.to(self.context.dtype), valid)
        codes = torch.nn.functional.pad(fourier(places / self.options.extent_m), (0, 0, 1, 0))  # 0 for the whole
        mask = torch.nn.functional.pad(valid, (1, 0), value=True) & valid.any(dim=1, keepdim=True)
        values = torch.cat([tokens, codes.to(tokens)], dim=-1) * mask[..., None]
        return Features(values[:, None], mask[:, None])

    def show(self, source: object) -> Tensor:
        """Return the points that are kept, seen along each axis, nearer ones before farther ones."""
        options = self.options
        if options.encoder == "views":
            patches = self._views(source)
            if not bool(patches.known.any()):
                raise MediaError(
                    "The scan has no patch with a known depth. Only patches with a place in space can be drawn. Check "
                    "the depth maps."
                )
            return draw_points(
                patches.places[patches.known],
                principal_colors(patches.features[patches.known]),
                num_available=patches.known.numel(),
                colors=ALIKE,
            )
        if options.encoder == "features":
            stored = read_features(source, feature_dim=options.feature_dim, **self._scan())
            kept = choose_points(len(stored.features), options.num_points)
            return draw_points(
                stored.coordinates[kept].float(),
                principal_colors(stored.features[kept]),
                num_available=len(stored.features),
                unit="voxels",
                colors=ALIKE,
            )
        cloud = read_points(source, **self._scan())
        self._doubt_size(cloud.xyz, source)
        kept = choose_points(len(cloud.xyz), options.num_points)
        rgb = None if cloud.rgb is None else cloud.rgb[kept]
        return draw_points(cloud.xyz[kept], rgb, num_available=len(cloud.xyz))

    def _doubt_size(self, xyz_N3: Tensor, source: object) -> None:
        """Note a cloud that is far larger or smaller than the metres that become 1."""
        some = xyz_N3[:: len(xyz_N3) // MOST_MEASURED + 1]
        if len(some) == 0:
            return
        low, high = torch.quantile(some, torch.tensor([0.02, 0.98]), dim=0)
        size, extent_m = float((high - low).max()), self.options.extent_m
        meant = float(f"{size / 2:.2g}")
        if size > MUCH_LARGER * extent_m:
            advice = f"Set extent_m={meant:g}"
            advice += ", or divide coordinates in millimetres by 1000." if size > MANY_M else " for a survey."
        elif 0 < size < extent_m / MUCH_SMALLER:
            advice = f"Set extent_m={meant:g}, or bring coordinates in another unit to metres."
        else:
            return
        doubt(
            "pointcloud: size",
            f"{name_of(source)} is {size:.4g} m wide. With extent_m={extent_m:g} places are told apart in clouds of "
            f"{extent_m / MUCH_SMALLER:g} to {MUCH_LARGER * extent_m:g} m. {advice}",
        )

    def _views(self, source: object) -> ViewTokens:
        options = self.options
        return read_view_tokens(
            source,
            feature_dim=options.feature_dim,
            num_views=options.num_views,
            counts_per_metre=options.counts_per_metre,
        )

    def _scan(self) -> dict[str, float]:
        return {"voxel_m": self.options.voxel_m, "counts_per_metre": self.options.counts_per_metre}

    def example(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return 50 coloured points around the viewer, 20 stored features, or two views of 2 x 3 patches."""
        if self.options.encoder == "views":
            return {
                "depth": 1 + torch.rand(2, 4, 6, generator=generator),
                "intrinsics": torch.tensor([[6.0, 0, 2.5], [0, 6.0, 1.5], [0, 0, 1]]),
                "poses": torch.eye(4).expand(2, -1, -1),
                "features": torch.randn(2, 2, 3, self.options.feature_dim, generator=generator),
            }
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
