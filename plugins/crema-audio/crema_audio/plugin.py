"""What the audio modality declares; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crema_core.plugins.spec import (
    CLIP_SUFFIXES,
    SOUND_SUFFIXES,
    Asset,
    Capabilities,
    InputSpec,
    ModalityOptions,
    ModalitySpec,
)

PATCH = 16
"""Side of a patch: 16 frames (0.16 s) by 16 mel bands."""
TIME_DIM, BAND_DIM = 32, 16
PATCH_DIM = PATCH * PATCH + TIME_DIM + BAND_DIM
"""Width of a patch token: its 256 numbers, 32 for when it is, 16 for which bands it covers."""


class AudioOptions(ModalityOptions):
    """How sounds are cut and encoded."""

    encoder: Literal["patches", "beats", "ast", "clap", "whisper", "pe", "backbone"] | None = Field(
        default=None,
        description="patches: spectrogram patches as they are, no parameters, no weights; beats: the paper's frozen "
        "encoder; ast, clap, whisper, pe: frozen encoders of transformers; backbone: the hearing of a vision-language "
        "model that has one; None: beats on a pretrained backbone, "
        "patches on a tiny one",
    )
    weights: str | None = Field(
        default=None,
        description="beats: file of the released checkpoint; others: hub id or folder; None: the encoder's usual hub "
        "id, see the table of encoders",
    )
    revision: str | None = Field(
        default=None, description="commit, tag or branch of the hub id; a commit pins the weights; None: the latest"
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-fA-F]{64}$",
        description="beats: digest the file of weights must have; None: any",
    )
    window_s: float = Field(
        default=5.12, ge=0.16, description="length of a window in seconds, a multiple of 0.16 s is used"
    )
    num_windows: int = Field(default=2, ge=1, description="most windows per sound; a short sound has fewer")
    stride_s: float | None = Field(
        default=None,
        gt=0,
        description="seconds between the beginnings of windows, shorter than window_s: they overlap; None: no overlap "
        "(first), or evenly over the sound (spread)",
    )
    placement: Literal["spread", "first"] = Field(
        default="spread",
        description="which part of a longer sound is heard; spread: windows evenly over all of it; first: the "
        "beginning, as the released code",
    )
    start_s: float | None = Field(default=None, ge=0, description="where to start listening, in seconds; None: at 0")
    end_s: float | None = Field(default=None, gt=0, description="where to stop, in seconds; None: at the end")
    full_scale: float = Field(
        default=1.0,
        gt=0,
        description="what floats have at full scale; 32768 for floats that were 16-bit numbers",
    )

    @model_validator(mode="after")
    def _one_file(self) -> AudioOptions:
        if self.sha256 is not None and self.encoder not in ("beats", None):
            raise ValueError(
                f"sha256 is for weights of one file, those of encoder='beats', and encoder='{self.encoder}' was "
                "chosen; a hub id is pinned by revision"
            )
        return self


def chosen_options(options: AudioOptions, *, pretrained: bool) -> AudioOptions:
    """Return the options with an encoder: the paper's for a pretrained backbone, none with weights for a tiny one."""
    if options.encoder is not None:
        return options
    return options.model_copy(update={"encoder": "beats" if pretrained else "patches"})


SPEC = ModalitySpec(
    name="audio",
    summary="Sounds and the sound track of videos, as spectrogram patches with time stamps.",
    factory="crema_audio.modality:AudioModality",
    options=AudioOptions,
    test_options=(
        AudioOptions(window_s=0.32, num_windows=3),
        AudioOptions(window_s=0.64, stride_s=0.25, num_windows=3, placement="first"),
    ),
    inputs=(
        InputSpec(
            kind="waveform",
            suffixes=tuple(suffix for suffix in SOUND_SUFFIXES if suffix not in CLIP_SUFFIXES),
            description="any rate and channels",
        ),
        InputSpec(
            kind="clip",
            suffixes=tuple(suffix for suffix in SOUND_SUFFIXES if suffix in CLIP_SUFFIXES),
            description="the sound track is read",
        ),
        InputSpec(kind="array", description="(S,), (channels, S) or (S, channels) at 16 kHz, or with its rate in Hz"),
    ),
    encoder="own",
    feature_dim=PATCH_DIM,
    prefix="Audio: ",
    released_name="audio",
    assets=(
        Asset(
            id="BEATs_iter3_plus_AS2M.pt",
            license="MIT",
            url="https://github.com/microsoft/unilm/tree/master/beats",
        ),
        Asset(
            id="MIT/ast-finetuned-audioset-10-10-0.4593",
            license="BSD-3-Clause",
            url="https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593",
        ),
        Asset(
            id="laion/clap-htsat-unfused",
            license="Apache-2.0",
            url="https://huggingface.co/laion/clap-htsat-unfused",
        ),
        Asset(id="openai/whisper-base", license="Apache-2.0", url="https://huggingface.co/openai/whisper-base"),
    ),
    capabilities=Capabilities(timestamps=True),
)
