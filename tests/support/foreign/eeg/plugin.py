"""What the eeg modality declares; imports no torch."""

from pydantic import Field

from crema_core.plugins.spec import Capabilities, InputSpec, ModalityOptions, ModalitySpec

NUM_BANDS = 16


class EegOptions(ModalityOptions):
    """How recordings are cut."""

    window_s: float = Field(default=0.5, gt=0, description="length of a window in seconds")
    max_windows: int = Field(default=8, ge=1, description="windows taken from the beginning of a recording")
    num_channels: int = Field(default=4, ge=1, description="channels taken, one token each, in the order of the file")


SPEC = ModalitySpec(
    name="eeg",
    api_version="1.0",
    summary="Power per band and channel of an electroencephalogram.",
    factory="crema_eeg.modality:EegModality",
    options=EegOptions,
    test_options=(EegOptions(), EegOptions(window_s=0.25, max_windows=3, num_channels=2)),
    inputs=(InputSpec(kind="recording", suffixes=(".edf",), description="EDF, channels of one sampling rate"),),
    encoder="own",
    feature_dim=NUM_BANDS,
    prefix="Brain: ",
    capabilities=Capabilities(timestamps=True),
)
