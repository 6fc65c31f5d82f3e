"""What a person can choose about a model, in frozen objects that are built once and passed on whole.

`build`, `load`, `load_backbone` and the configuration of `crema fit` read these fields; a saved model records them.
Torch-free, so that configuration files are checked in milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from crema_core.plugins.spec import parse_settings


class BackboneSettings(BaseModel):
    """Which frozen backbone is loaded, and how; frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbone: str | None = Field(
        default=None,
        description="folder or hub id of a vision-language model of transformers, the name of a checkpoint that a "
        "package ships (crema-tiny, crema-tiny-video, crema-tiny-vlm), or a name of crema_core.model.shapes, for "
        "counting without weights; default: crema-tiny, or none where the fusion needs nothing before the "
        "language model",
    )
    revision: str | None = Field(default=None, description="hub revision (commit, tag or branch) of the backbone")
    language_model: str | None = Field(
        default=None,
        description="folder or hub id of any causal or encoder-decoder language model of transformers, in place of "
        "the backbone's own, whose weights are then not loaded (Table 6); every modality then starts with a fresh "
        "projection into it. With a backbone of shapes alone its configuration is enough",
    )
    language_revision: str | None = Field(default=None, description="hub revision of that language model")
    qformer: str | dict[str, Any] | None = Field(
        default=None,
        description="of a vision-language model, what its further modalities pass: folder or hub id of a BLIP-2 "
        "checkpoint, whose Q-Former is frozen, or sizes of a new one, such as {layers: 2, width: 512}, which is "
        "trained with the first of them; default: a new one of these sizes",
    )
    precision: str = Field(
        default="fp32",
        description="of the frozen parts, whatever dtype the checkpoint names: fp32, bf16 or, to answer only, fp16 "
        "where the language model holds it",
    )
    backbone_dropout: bool = Field(
        default=False, description="train with the frozen parts' own dropout, as the released code does (0.1)"
    )
    quantization: str | None = Field(
        default=None,
        description="8bit or 4bit, for a frozen language model that takes less memory; needs bitsandbytes or torchao",
    )
    image_size: int | None = Field(
        default=None,
        ge=1,
        description="side in pixels of the square pictures, for a backbone that takes any (Qwen-VL); default: its own",
    )

    @field_validator("backbone", "language_model", mode="before")
    @classmethod
    def _path_as_text(cls, place: object) -> object:
        return os.fspath(place) if isinstance(place, os.PathLike) else place

    @property
    def source(self) -> str:
        """The backbone as it was named, which is what a saved model records."""
        assert self.backbone is not None, "the default is filled in before anything is loaded"
        return self.backbone

    def record(self) -> dict[str, Any]:
        """Return what a saved model says about its backbone, as JSON data; the inverse of `ModelSettings.of_saved`."""
        language = {"source": self.language_model, "revision": self.language_revision}
        return {
            "backbone": {
                "source": self.source,
                "revision": self.revision,
                "precision": self.precision,
                **({} if self.image_size is None else {"image_size": self.image_size}),
            },
            "language_model": None if self.language_model is None else language,
            "backbone_dropout": self.backbone_dropout,
            **({} if self.quantization is None else {"quantization": self.quantization}),
            **({} if self.qformer is None else {"qformer": self.qformer}),
        }


class ModelSettings(BackboneSettings):
    """What is built on which backbone; all that `crema_core.build` takes beside the modalities."""

    fusion: str | dict[str, Any] = Field(
        default="self_gated", description="name of a strategy, or {name: ..., option: value}"
    )
    encoders: tuple[str | dict[str, Any], ...] | None = Field(
        default=None,
        description="several frozen encoders of the major modality, for a fusion that mixes them; each a name or a "
        "mapping with name, weights, layer, num_frames and so on. The same as the modality's option that names several",
    )
    tuning: str | dict[str, Any] | None = Field(
        default=None,
        description="what of the language model is trained too: full, or settings of a LoRA such as {rank: 64, alpha: "
        "16}; default: nothing, as in CREMA",
    )
    major: str | None = Field(
        default=None,
        description="modality whose frames the others are fused on (the paper's Table 20 compares choices); default: "
        "the one that declares itself so, else the first",
    )
    mmqa: dict[str, Any] = Field(default={}, description="adapter sizes of all modalities")
    template: dict[str, Any] = Field(
        default={},
        description="wording of questions; what is left open comes from the backbone's folder where it has wording of "
        "its own",
    )
    seed: int = Field(
        default=0,
        description="of every newly initialised parameter; a modality's start does not depend on which others are "
        "built",
    )

    @field_validator("tuning", "mmqa", "template", mode="before")
    @classmethod
    def _object_as_mapping(cls, value: object) -> object:
        return value.model_dump() if isinstance(value, BaseModel) else value

    @field_validator("mmqa", "template", mode="before")
    @classmethod
    def _none_as_empty(cls, value: object) -> object:
        return {} if value is None else value

    @classmethod
    def of_saved(cls, config: Mapping[str, Any]) -> ModelSettings:
        """Return the settings of a saved model from its configuration (`crema.json`).

        Adapter sizes and encoders are recorded by modality there, so they are not among them.
        """
        origin, language = config["backbone"], config.get("language_model") or {}
        dropout = "backbone_dropout" if "backbone_dropout" in config else "frozen_dropout"  # the earlier name
        values = {
            "backbone": origin["source"],
            "revision": origin.get("revision"),
            "precision": origin.get("precision"),
            "image_size": origin.get("image_size"),
            "language_model": language.get("source"),
            "language_revision": language.get("revision"),
            "backbone_dropout": config.get(dropout),  # a configuration with neither is damaged
            "quantization": config.get("quantization"),
            "qformer": config.get("qformer"),
            "tuning": config.get("tuning"),
            "fusion": config["fusion"],
            "major": config["major"],
            "template": config["template"],
            "seed": config["seed"],
        }
        return parse_settings(cls, values, title="saved model")
