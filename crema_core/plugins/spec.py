"""What a plugin declares about its modality, without importing torch.

The entry point of a modality package names a `ModalitySpec`. Everything that listing, help texts, option checking and
`build` need to know before any heavy import is in it; the heavy class is named by a string (`factory`).
"""

from __future__ import annotations

import json
import math
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from crema_core.errors import OptionsError, did_you_mean

API_VERSION = "1.0"
"""Version of the plugin contract (spec fields, `Modality` methods, hook specifications); not the package's version."""

OutputStart = Literal["copied", "fresh", "zero"]
"""With which weights the projection into the language model's space starts."""

Settings = TypeVar("Settings", bound=BaseModel)

NAME_PATTERN = re.compile(r"^[a-z][a-z0-9_]{1,31}$")
FACTORY_PATTERN = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")

MOST_SHOWN = 200
"""Characters of a wrong value in a message."""
_NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))

# Attributes of torch.nn.Module and torch.nn.ModuleDict: a child module of such a name cannot be registered. Written
# down because this module must not import torch; a test compares the list with the installed torch, on whose modules
# transformers hangs one more (smart_apply).
RESERVED_NAMES = frozenset(_NAMES["torch"] + _NAMES["core"])

PLACEHOLDERS = frozenset(_NAMES["placeholders"])
"""Names that examples use and packages must not: two packages made from one example would both be called so."""

OPTION_KEYS_OF_CORE = frozenset(("name", "mmqa", "prefix"))
"""Keys of a modality's mapping in `build` that mean something to core, so no plugin option may be called so."""


class ModalityOptions(BaseModel):
    """Base of a plugin's options: frozen, unknown keys refused. Subclass it and give every field a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".mpo", ".apng", ".ppm", ".pgm", ".pnm",
    ".jp2", ".avif",
)  # fmt: skip
"""Endings of the picture files core reads; here, because declarations import neither torch nor Pillow."""
CLIP_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif", ".qt", ".3gp", ".3g2", ".f4v",
    ".flv", ".wmv", ".asf", ".vob", ".m2t", ".m2ts", ".mts", ".ogv", ".divx", ".mxf",
)  # fmt: skip
"""Endings of the clips core reads."""
SOUND_SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".m4b", ".aac", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".wma", ".mka", ".weba", ".mp2", ".ac3", ".amr",
    *(suffix for suffix in CLIP_SUFFIXES if suffix != ".gif"),
)  # fmt: skip
"""Endings of the sounds that can be read: sound files, and clips for their sound track."""
ARRAY_SUFFIXES = (".npz", ".npy")
"""Endings of the arrays core reads."""


class InputSpec(BaseModel):
    """One kind of source the modality reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str = Field(description="what the source is, in one word: clip, waveform, image, points, array")
    suffixes: tuple[str, ...] = Field(default=(), description="file endings read, with the dot, lower case")
    description: str = Field(default="", description="layout, units and ranges expected inside the file")
    any_bytes: bool = Field(
        default=False,
        description="every content is legal, as of raw numbers or free text: a reader cannot tell damage",
    )


class MMQASpec(BaseModel):
    """The Modality-specific Multi-Query Adapter's sizes (CREMA section 3.2; ranks Table 19, queries Table 22)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_queries: int | None = Field(default=None, ge=1, description="learnable queries; None: as many as the backbone")
    lora_rank: int = Field(
        default=64, ge=0, description="rank of the LoRA on query and value of self-attention; 0: no LoRA"
    )
    lora_alpha: float | None = Field(default=None, gt=0, description="LoRA scale numerator; None: the rank (scale 1)")
    lora_dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout on the LoRA input while training")
    projection: Literal["auto", "always", "never", "interpolate"] = Field(
        default="auto",
        description="FC from feature_dim to the Q-Former's width: auto where they differ; interpolate: no parameters",
    )
    norm: bool = Field(default=True, description="LayerNorm on the features before the Q-Former")
    output_start: OutputStart | Literal["auto"] = Field(
        default="auto",
        description="weights the output projection starts with: the backbone's own (copied), random ones (fresh) or "
        "zeros (zero); auto: the backbone's own where it has any for this language model, else random ones. Sizes of "
        "all modalities set it for supporting ones; the major modality's is set by its own sizes",
    )


class Asset(BaseModel):
    """Weights or data the modality needs, shown before anything is downloaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str = Field(description="hub id or file name")
    revision: str | None = Field(default=None, description="pinned revision on the hub")
    sha256: str | None = Field(default=None, description="checksum of the file where it is known")
    size_bytes: int | None = Field(default=None, description="size in bytes")
    license: str = Field(description="licence of the weights")
    url: str = Field(default="", description="where a person finds it")


class Capabilities(BaseModel):
    """Declared properties that core relies on; tested by the conformance kit, never sniffed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    default_major: bool = Field(default=False, description="chosen as the major modality when the user names none")
    deterministic: bool = Field(default=True, description="encode gives equal results for equal inputs in eval mode")
    timestamps: bool = Field(default=False, description="prepare returns the time span of every step in seconds")
    several_encoders: str | None = Field(
        default=None, description="option that names several encoders, whose features come in parts; None: no option"
    )


class ModalitySpec(BaseModel):
    """A modality as its package declares it.

    Raises:
        pydantic.ValidationError: for an illegal name, factory string or version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    name: str = Field(description="name used in `build`, in data files and in state-dict keys")
    api_version: str = Field(default=API_VERSION, pattern=r"^\d+\.\d+$", description="contract version written against")
    summary: str = Field(min_length=1, description="one sentence for listings")
    factory: str = Field(
        description="'package.module:Class' of the Modality subclass, imported only when built; or the class"
    )
    options: type[ModalityOptions] = Field(default=ModalityOptions, description="pydantic model of the options")
    options_version: int = Field(
        default=1, ge=1, description="raised when options saved by an earlier release are read otherwise"
    )
    migrate_options: Callable[[dict[str, Any], int], dict[str, Any]] | None = Field(
        default=None,
        description="function of a module: options as they were saved and their options_version -> those of today; "
        "called for saved models, adapters and runs alone, needed from options_version 2 on",
    )
    test_options: tuple[ModalityOptions, ...] = Field(default=(), description="small, fast option sets for tests")
    inputs: tuple[InputSpec, ...] = Field(default=(), description="kinds of sources read")
    encoder: Literal["own", "vision", "features"] = Field(
        description="own encoder, the backbone's shared frozen vision encoder, or precomputed features"
    )
    feature_dim: int | None = Field(
        default=None, ge=1, description="width of the features; None: width of the backbone's vision encoder"
    )
    mmqa: MMQASpec = Field(default=MMQASpec(), description="sizes of the adapter")
    prefix: str = Field(description="text before this modality's tokens; '{index}' becomes the frame number")
    trainable: bool = Field(
        default=False,
        description="encoder is trained with the adapter and saved with it; for sensors nobody has a pretrained one of",
    )
    per_frame: bool = Field(default=False, description="one step per frame of the major modality, same instants")
    requires: tuple[str, ...] = Field(default=(), description="requirements checked from metadata before the import")
    assets: tuple[Asset, ...] = Field(default=(), description="weights the modality can load")
    capabilities: Capabilities = Field(default=Capabilities(), description="declared properties")
    released_name: str | None = Field(
        default=None, description="name of this modality inside the released CREMA checkpoints, for converting them"
    )
    docs_url: str = Field(default="", description="where users read more")

    @model_validator(mode="before")
    @classmethod
    def _from_another_version(cls, values: Any) -> Any:
        # A plugin written for a newer minor version may declare fields this core does not know; they are left aside
        # (the registry warns). Unknown fields of our own version are mistakes and are refused.
        if isinstance(values, dict) and _is_newer_minor(str(values.get("api_version", API_VERSION))):
            return {key: value for key, value in values.items() if key in cls.model_fields}
        return values

    @field_validator("options")
    @classmethod
    def _legal_options(cls, options: type[ModalityOptions]) -> type[ModalityOptions]:
        taken = sorted(OPTION_KEYS_OF_CORE & options.model_fields.keys())
        if taken:
            raise ValueError(
                f"the options {taken} have names that `build` uses itself ({', '.join(sorted(OPTION_KEYS_OF_CORE))}). "
                "Rename them."
            )
        return options

    @model_validator(mode="after")
    def _can_read_earlier_options(self) -> ModalitySpec:
        if (self.options_version > 1) != (self.migrate_options is not None):
            raise ValueError(
                f"options_version is {self.options_version} and migrate_options is "
                f"{'missing' if self.migrate_options is None else 'given'}. Version 1 has nothing to migrate from, "
                "every later one has. Give both, or neither."
            )
        return self

    @model_validator(mode="after")
    def _has_an_encoder_to_train(self) -> ModalitySpec:
        if self.trainable and self.encoder != "own":
            raise ValueError(
                f"trainable is True and encoder is {self.encoder!r}. What is trained is an encoder of the modality's "
                "own: the backbone's is shared by all and frozen, and features in files have none. Write "
                'encoder="own", or leave trainable out.'
            )
        return self

    @model_validator(mode="after")
    def _has_the_option_of_encoders(self) -> ModalitySpec:
        option = self.capabilities.several_encoders
        if option is not None and option not in self.options.model_fields:
            raise ValueError(
                f"capabilities.several_encoders names {option!r}, which is none of the options "
                f"{sorted(self.options.model_fields)}. Name one of them, or leave it out."
            )
        return self

    @field_validator("name")
    @classmethod
    def _legal_name(cls, name: str) -> str:
        if not NAME_PATTERN.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a legal modality name. Names match {NAME_PATTERN.pattern}, for example 'radar'."
            )
        if name in RESERVED_NAMES:
            raise ValueError(
                f"{name!r} is reserved (an attribute of torch modules or a field of the model config). Rename it."
            )
        return name

    @field_validator("factory", mode="before")
    @classmethod
    def _factory_of_a_class(cls, factory: object) -> object:
        # In a notebook the class is at hand. It is kept as text all the same: the spec must pickle, and a cell that is
        # run again defines the class anew.
        return f"{factory.__module__}:{factory.__qualname__}" if isinstance(factory, type) else factory

    @field_validator("factory")
    @classmethod
    def _legal_factory(cls, factory: str) -> str:
        if "<locals>" in factory:
            raise ValueError(
                f"{factory!r} is a class inside a function. Worker processes must be able to import it. Move it to the "
                "top of a module or of a notebook."
            )
        if not FACTORY_PATTERN.fullmatch(factory):
            raise ValueError(
                f"{factory!r} does not name a class. Write 'package.module:Class', for example "
                "'crema_radar.modality:RadarModality'."
            )
        return factory

    def parse_options(self, values: dict[str, Any] | ModalityOptions | None) -> ModalityOptions:
        """Validate options given by a user: by name, an instance of `options`, or None for the defaults.

        Raises:
            OptionsError: for unknown names (with the nearest known one) or bad values, all in one message.
        """
        if isinstance(values, self.options):
            return values
        return parse_settings(self.options, dict(values or {}), title=self.name)

    def load_factory(self) -> type[Any]:
        """Import and return the heavy class named by `factory`."""
        factory: type[Any] = pkgutil.resolve_name(self.factory)
        return factory

    def describe(self) -> dict[str, Any]:
        """Return the declaration as plain JSON data; `options` becomes its JSON schema."""
        fields = self.model_dump(mode="json", exclude={"options", "test_options", "migrate_options"})
        fields["options"] = self.options.model_json_schema()
        fields["test_options"] = [json.loads(options.model_dump_json()) for options in self.test_options]
        return fields


def _is_newer_minor(version: str) -> bool:
    major, _, minor = version.partition(".")
    own_major, _, own_minor = API_VERSION.partition(".")
    return major == own_major and minor.isdigit() and int(minor) > int(own_minor)


def parse_settings(model: type[Settings], values: dict[str, Any], *, title: str) -> Settings:
    """Build a pydantic settings object, turning its errors into one `OptionsError` people can act on."""
    for key, value in _leaves(values):
        if isinstance(value, float) and not math.isfinite(value):  # also inside fields that take any JSON data
            raise OptionsError(
                f"{title}.{key}: a finite number is needed, got {value!r}. Give another value, for example the default."
            )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, entry, title) for entry in error.errors()]
        raise OptionsError("\n".join(lines)) from None


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of nested mappings and lists under dotted keys."""
    if isinstance(value, Mapping):
        for name, own in value.items():
            yield from _leaves(own, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _leaves(own, key)
    else:
        yield key, value


def with_changes(settings: Settings, changes: Mapping[str, object], *, title: str) -> Settings:
    """Return settings with single values replaced; raises as `parse_settings` does."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return parse_settings(type(settings), {**given, **changes}, title=title) if changes else settings


def _explain(model: type[BaseModel], entry: Any, title: str) -> str:
    key = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields)) or "none"
        return f"{title}: unknown option '{key}'. Accepted: {known}.{did_you_mean(key, model.model_fields)}"
    message = entry["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    place = f"{title}.{key}" if key else title
    return f"{place}: {message}, got {_briefly(entry['input'])}. Give another value, for example the default."


def _briefly(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class OptionRow(NamedTuple):
    """One option."""

    name: str  # as it is written in `build` and in settings
    type: str  # with its limits, in the words of JSON: `integer >= 1`, `string | null`
    default: str  # as JSON, or "required"
    meaning: str  # the description


def option_rows(schema: Mapping[str, Any]) -> list[OptionRow]:
    """Return the options of a JSON schema, as `crema_core.describe(name)["options"]` is one, in order of declaration.

    Example:
        >>> option_rows(ModalityOptions.model_json_schema())
        []
    """
    required = schema.get("required", [])
    return [
        OptionRow(
            name,
            _type_of(field),
            "required" if name in required else json.dumps(field.get("default")),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def _type_of(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_type_of(choice) for choice in field["anyOf"])
    kind = str(field.get("type", json.dumps(field["const"]) if "const" in field else "object"))
    return " ".join([kind, *(f"{sign} {field[key]}" for key, sign in LIMITS.items() if key in field)])
