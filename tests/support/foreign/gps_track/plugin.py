"""What the gps_track modality declares; imports no torch."""

from pydantic import Field

from crema_core.plugins.spec import Capabilities, InputSpec, ModalityOptions, ModalitySpec

FEATURE_DIM = 24


class GpsTrackOptions(ModalityOptions):
    """How tracks are read."""

    points: int = Field(default=16, ge=2, le=256, description="points a track is thinned out to")


SPEC = ModalitySpec(
    name="gps_track",
    api_version="1.0",
    summary="Where somebody went: displacement, speed and direction.",
    factory="crema_gps_track.modality:GpsTrackModality",
    options=GpsTrackOptions,
    test_options=(GpsTrackOptions(points=6),),
    inputs=(InputSpec(kind="track", suffixes=(".gpx",), description="GPX 1.1, track points with time"),),
    encoder="own",
    feature_dim=FEATURE_DIM,
    prefix="Track: ",
    capabilities=Capabilities(timestamps=True),
)
