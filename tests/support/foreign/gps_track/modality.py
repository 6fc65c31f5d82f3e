"""The gps_track modality: GPX files -> steps between points -> waves of displacement, speed and direction.

Shapes: B samples, T steps, D = FEATURE_DIM.
"""

import xml.etree.ElementTree as ElementTree
from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor

from crema_core.data.media import check_file, wrong_source
from crema_core.errors import MediaError
from crema_core.modality import Batch, Features, Modality, Sample
from crema_gps_track.plugin import FEATURE_DIM, GpsTrackOptions

METRES_PER_DEGREE = 111_320.0
NUM_VALUES = 6


class GpsTrackModality(Modality):
    """Tracks: a path of a GPX file, or a tensor `(points, 3)` of seconds, latitude and longitude."""

    options: GpsTrackOptions

    def prepare(self, source: object) -> Sample:
        """Read a track into `steps` `(T, 6)`: east and north from the start, both speeds, direction."""
        if isinstance(source, str | Path):
            source = read_gpx(check_file(source, what="a track", suffixes=(".gpx",)))
        if not isinstance(source, Tensor) or source.dim() != 2 or source.shape[1] != 3:
            raise wrong_source(source, what="a track", accepted="a path or a tensor (points, 3)", advice="Pass one.")
        track = source.double()
        times = track[:, 0] - track[:1, 0]
        if len(track) < 2 or not bool(track.isfinite().all()) or not bool((times.diff() > 0).all()):
            raise MediaError("The track has no two points in the order of time. Export it again, sorted by time.")
        kept = torch.linspace(0, len(track) - 1, min(self.options.points, len(track))).round().long()
        times, (latitude, longitude) = times[kept], track[kept, 1:].T
        north = (latitude - latitude[0]) * METRES_PER_DEGREE
        east = (longitude - longitude[0]) * METRES_PER_DEGREE * latitude[0].deg2rad().cos()
        velocity = torch.stack((east.diff(), north.diff())) / times.diff()  # (2, T)
        direction = torch.nn.functional.normalize(velocity, dim=0)
        steps = torch.cat((torch.stack((east[1:], north[1:])) / 100, velocity / 10, direction)).T
        return Sample({"steps": steps.float()}, torch.stack((times[:-1], times[1:]), dim=1).float())

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, D)`: every value, and waves of it."""
        steps = batch["steps"].float()
        waves = torch.cat((steps, steps.sin(), steps.cos(), (4 * steps).sin()), dim=-1)[..., :FEATURE_DIM]
        return Features(waves[:, :, None], batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a synthetic walk of 9 points, `(9, 3)`."""
        walk = torch.randn(9, 2, generator=generator).cumsum(0) * 1e-4
        return torch.cat((torch.arange(9.0)[:, None], walk + torch.tensor([52.5, 13.4])), dim=1).double()


def read_gpx(path: Path) -> Tensor:
    """Read the track points of a GPX file: `(points, 3)` seconds, latitude, longitude."""
    points = []
    try:
        for point in ElementTree.parse(path).iter("{http://www.topografix.com/GPX/1/1}trkpt"):
            time = datetime.fromisoformat(point.findtext("{*}time", ""))
            points.append((time.timestamp(), float(point.attrib["lat"]), float(point.attrib["lon"])))
    except (ElementTree.ParseError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise MediaError(f"'{path}' is no GPX 1.1 file ({error}). Export the track as GPX.") from error
    if not points:
        raise MediaError(f"'{path}' has no track point. Export the track as GPX 1.1 with times.")
    return torch.tensor(points, dtype=torch.float64)
