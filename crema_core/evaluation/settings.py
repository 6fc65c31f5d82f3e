"""What a person can choose about an evaluation, in one frozen object that is passed on whole. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crema_core.data.unusable import MAX_SKIPPED, OnError

Prompts = Literal["model", "dataset"]
FusionMode = Literal["model", "concat"]


class EvaluationSettings(BaseModel):
    """How questions are asked and answers judged, and where they are written; frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    modalities: tuple[str, ...] | None = Field(
        default=None,
        description="modalities that take part; None: all of the model's, an empty sequence: the question alone",
    )
    shuffle: str | None = Field(default=None, description="a modality whose sources are exchanged between samples")
    batch_size: int = Field(default=32, ge=1, description="questions per pass")
    max_new_tokens: int = Field(default=10, ge=1, description="longest open-ended answer")
    num_beams: int = Field(default=1, ge=1, description="beams of the search for open-ended answers; 1 is greedy")
    num_workers: int = Field(default=0, ge=0, description="processes that read media")
    seed: int = Field(default=0, description="of `shuffle`")
    scorer: str | None = Field(
        default=None,
        description="rule for open-ended answers, a metric with a verdict on single answers; None: that of the data "
        "set the samples name, else exact",
    )
    measures: tuple[str, ...] | None = Field(
        default=None, description="further measures, names of installed metrics; None: those of the data set"
    )
    prompts: Prompts = Field(
        default="model",
        description="dataset puts questions as the data set's paper does, model as the model was trained",
    )
    fusion: FusionMode = Field(
        default="model",
        description="concat bypasses the fusion and gives the language model every modality's own tokens, which needs "
        "no trained fusion (zero-shot, CREMA appendix A.5)",
    )
    on_error: OnError = Field(
        default="stop",
        description="samples whose files are missing, empty, of a kind their modality does not read or unreadable: "
        "stop, or skip: leave them out, which reads every source once before the first question",
    )
    max_skipped: float = Field(
        default=MAX_SKIPPED, ge=0, le=1, description="largest share of the samples that skip leaves out"
    )
    out: Path | None = Field(
        default=None,
        description="file for one JSON line per question, written as answers come; a folder where several evaluations "
        "are made",
    )
    resume: bool = Field(
        default=False, description="keep the answers that `out` already has from the same evaluation, and continue"
    )
