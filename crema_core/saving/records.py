"""What `crema.json` and `adapter.json` hold, as far as loading reads it, so that a damaged one is refused at once.

A file may be whole, of this format and still of other content than was written: edited, or from somebody else. Further
keys are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crema_core.common.reading import inside, shown
from crema_core.errors import CheckpointError


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    distribution: str
    version: str


class _Place(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    source: str
    revision: str | None = None


class _Parts(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    fusion: _Part | None = None
    backbone: _Part | None = None
    encoders: list[_Part] = []


class _Named(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    name: str


class _Processing(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    class_: str = Field(alias="class")
    settings: str
    transformers: str


class _Sketch(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    shape: list[int]
    type: str
    length: float
    sketch: list[float]


class _Features(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    feature_dim: int | None = None
    arithmetic: str = ""
    encoded: dict[str, _Sketch] = {}
    prepared: dict[str, _Sketch] = {}


class _QFormerOf(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    identity: str | None
    owner: str | None
    brought: bool


Revisions = dict[str, dict[str, str]]
"""By hub id and branch or tag, the commit: see `crema_core.model.revisions`."""


class ModalityRecord(_Part):
    """A modality of a saved model."""

    options: dict[str, Any]
    options_version: int = 1
    mmqa: dict[str, Any]
    prefix: str


class ModelRecord(BaseModel):
    """`crema.json`."""

    model_config = ConfigDict(extra="allow", strict=True)

    parts: _Parts | None = None
    backbone: _Place
    language_model: _Place | None = None
    fusion: _Named
    major: str
    seed: int
    template: dict[str, Any]
    modalities: list[ModalityRecord]
    identity: str
    language_identity: str | None = None
    fusion_sha256: str
    language_sha256: str = ""
    gain: float = 1.0
    processing: _Processing | None = None
    revisions: Revisions = {}


class AdapterRecord(ModalityRecord):
    """`adapter.json`."""

    fusion: str
    language_dim: int
    backbone: _Place
    language_model: _Place | None = None
    features: _Features | None = None
    qformer: _QFormerOf = _QFormerOf(identity=None, owner=None, brought=False)
    processing: _Processing | None = None
    sha256: str
    revisions: Revisions = {}


class _Of(_Named):
    distribution: str = ""
    version: str = ""
    options: dict[str, Any] = {}
    options_version: int = 1


class _BuiltModel(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    fusion: _Named | None = None
    modalities: list[_Of]
    revisions: Revisions = {}


class ContinuedRecord(BaseModel):
    """What of the model of a run is asked for again when it is continued."""

    model_config = ConfigDict(extra="allow", strict=True)

    modalities: list[ModalityRecord]


class RunRecord(BaseModel):
    """`config.json` of a training run."""

    model_config = ConfigDict(extra="allow", strict=True)

    settings: dict[str, Any]
    model: _BuiltModel


def check_record(file: Path, values: Mapping[str, Any], model: type[BaseModel], *, writer: str) -> None:
    """Refuse the content of a file that is not what its writer writes.

    Args:
        file: for the message.
        values: its content.
        model: what it should hold.
        writer: for the message.

    Raises:
        CheckpointError: naming the first three places that differ.
    """
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        found = [f"{'.'.join(map(str, own['loc']))}: {own['msg'][0].lower()}{own['msg'][1:]}" for own in error.errors()]
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise CheckpointError(
            f"{shown(file)} holds something else than {writer} wrote: {'; '.join(found[:3])}{more}. It must be the "
            "JSON file that was saved. Copy the folder again. Nothing was changed."
        ) from None


def check_names(place: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose modalities are not folders inside its own.

    Raises:
        CheckpointError: for a name that leads out of the folder, stands twice, or is missing.
    """
    names = [entry["name"] for entry in config["modalities"]]
    for name in names:
        inside(place, name, what="the folder of a modality")
    if len(set(names)) < len(names) or config["major"] not in names:
        raise CheckpointError(
            f"{shown(place)} lists the modalities {', '.join(names) or 'none'} with '{config['major']}' as the major "
            "one. Needed are different names, of which the major one is one. Copy the folder again. Nothing was "
            "changed."
        )
