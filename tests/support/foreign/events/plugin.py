"""What the events modality declares; imports no torch."""

from pydantic import Field

from crema_core.plugins.spec import Capabilities, InputSpec, ModalityOptions, ModalitySpec

FEATURE_DIM = 32


class EventsOptions(ModalityOptions):
    """How streams are cut."""

    bin_s: float = Field(default=0.1, gt=0, description="length of a bin in seconds")
    max_bins: int = Field(default=10, ge=1, description="bins taken from the beginning of a stream")


SPEC = ModalitySpec(
    name="events",
    api_version="1.0",
    summary="Brightness changes of an event camera, with an encoder that is trained.",
    factory="crema_events.modality:EventsModality",
    options=EventsOptions,
    test_options=(EventsOptions(), EventsOptions(bin_s=0.2, max_bins=3)),
    inputs=(InputSpec(kind="array", suffixes=(".npy",), description="(events, 4): x, y, microseconds, polarity"),),
    encoder="own",
    trainable=True,
    feature_dim=FEATURE_DIM,
    prefix="Events: ",
    capabilities=Capabilities(timestamps=True),
)
