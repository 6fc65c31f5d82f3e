"""Loading a backbone: a folder, a hub id, the one shipped in the package, or a shape without weights."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedConfig

from crema_core.errors import CheckpointError, PluginError, did_you_mean
from crema_core.model.backbone import ALONE, TINY, Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest, NamedCheckpoint, NamedShape
from crema_core.model.checkpoint import read_config
from crema_core.model.loading import read_json
from crema_core.model.precision import frozen_dtype
from crema_core.model.quantization import quantization_config
from crema_core.model.seat import LanguageSource, load_seat, read_seat_config
from crema_core.plugins import registry

FALLBACK = "any"
"""Entries of the group `crema.backbones` whose names begin so are asked about model types without an entry."""


def load_backbone(
    source: str | Path,
    *,
    revision: str | None = None,
    language_model: str | Path | None = None,
    language_revision: str | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Load a checkpoint of any installed backbone family: BLIP-2 or InstructBLIP format, a video language model.

    Args:
        source: folder, hub id, or a name that a package gives: of a checkpoint it ships ("crema-tiny"), or of a
            published one to count without its weights ("blip2-flan-t5-xl").
        revision: hub revision (commit, tag or branch).
        language_model: folder or hub id of another language model for the seat of the checkpoint's own, whose weights
            are then not loaded; with a shape as `source`, its configuration is enough.
        language_revision: hub revision of that one.
        precision: "fp32", "bf16" or, where the language model holds it, "fp16"; of vision encoder and language model.
            What the checkpoint's configuration says about its dtype is not looked at.
        frozen_dropout: see `Backbone`.
        quantization: "8bit" or "4bit" language model, see `crema_core.model.quantization`; None: as it is.
        image_size: side in pixels of the square pictures, for a backbone that takes any (Qwen-VL); None: its default.

    Raises:
        CheckpointError: when nothing loads from `source`, or no installed family loads it.
        PluginError: when the family's package is switched off, broken, or not the only one.
        OptionsError: for an image size the backbone cannot take.
        PrecisionError: for a precision the language model cannot hold.
    """
    wanted = str(source)
    named = _named(wanted)
    request = BackboneRequest(
        wanted,
        str(named.place()) if isinstance(named, NamedCheckpoint) else wanted,
        revision,
        None if language_model is None else LanguageSource(str(language_model), language_revision),
        None if language_model is None else read_seat_config(str(language_model), language_revision),
        precision=precision,
        frozen_dropout=frozen_dropout,
        quantization=quantization,
        image_size=image_size,
    )
    shape = named if isinstance(named, NamedShape) else None
    config = _config(request) if shape is None else shape.config()
    found, family = find_family(config, wanted)
    backbone = family.load(config, request) if shape is None else family.shape(config, request)
    backbone.weights = None if shape is None else shape.weights
    backbone.provenance = found.provenance()
    return backbone


def find_family(config: PreTrainedConfig, source: str) -> tuple[registry.Provider, BackboneFamily]:
    """Return what loads a checkpoint: the family of its model type, else the first `any-...` that recognises it.

    Args:
        config: of the whole checkpoint.
        source: how the checkpoint was named, for the message.

    Raises:
        CheckpointError: when no installed family loads it; it says which package does, where that is known.
        PluginError: when the family's package is switched off, broken, or not the only one.
    """
    names = registry.usable_names("backbone")
    for name in (config.model_type, *(name for name in names if name.startswith(FALLBACK))):
        if name not in registry.installed_names("backbone"):
            continue
        found = registry.find("backbone", name)
        family = found.load()
        if isinstance(family, BackboneFamily) and (name == config.model_type or family.recognises(config)):
            return found, family
    loaded = ", ".join(_model_types())
    packages = registry.known_packages("backbone")
    install = f" Run: pip install {packages[config.model_type]}." if config.model_type in packages else ""
    raise CheckpointError(
        f"'{source}' is a '{config.model_type}' model, and no installed backbone family loads it. Installed: {loaded}."
        f"{install} Try backbone='Salesforce/blip2-flan-t5-xl', or '{TINY}' to see everything work."
    )


def checkpoint_place(source: str) -> Path:
    """Return the folder of a checkpoint that a package ships under a name; anything else is a path or hub id itself."""
    named = _named(source)
    return Path(named.place() if isinstance(named, NamedCheckpoint) else source)


def _named(source: str) -> NamedCheckpoint | NamedShape | None:
    """Return what a package gives this name, None where `source` is a place."""
    if source not in registry.known_names("backbone") or Path(source).exists():
        return None
    found = registry.load("backbone", source)
    return found if isinstance(found, NamedCheckpoint | NamedShape) else None


def _model_types() -> list[str]:
    """Return the model types with a family of their own; names of checkpoints and of broken packages are left out."""
    found = []
    for name in registry.usable_names("backbone"):
        try:
            family = registry.load("backbone", name)
        except PluginError:
            continue
        if isinstance(family, BackboneFamily) and not name.startswith(FALLBACK):
            found.append(name)
    return found


def _config(request: BackboneRequest) -> PreTrainedConfig:
    # A family may bring configuration classes that transformers does not have: it is imported first.
    plain = read_json(request.place, "config.json", revision=request.revision, error=CheckpointError) or {}
    if plain.get("model_type") in registry.usable_names("backbone"):
        registry.load("backbone", plain["model_type"])
    return read_config(
        request.place,
        request.revision,
        what="backbone",
        accepted=f"a folder or hub id in BLIP-2 or InstructBLIP format, or '{TINY}'",
        try_next="Try backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable." + _near_shape(request.place),
    )


def load_language_backbone(
    language_model: str | Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
) -> Backbone:
    """Load a language model alone, for strategies whose senses bring everything before it.

    Args:
        language_model: folder or hub id of a causal or encoder-decoder language model.
        revision: hub revision.
        precision: of its weights.
        frozen_dropout: see `Backbone`.
        quantization: see `load_backbone`.

    Raises:
        CheckpointError: when nothing loads.
        PrecisionError: for a precision the language model cannot hold.
    """
    source = LanguageSource(str(language_model), revision)
    config = read_seat_config(source.source, revision)
    dtype = frozen_dtype(precision, config)
    quantized = None if quantization is None else quantization_config(quantization, dtype=dtype)
    seat = load_seat(source, config, dtype=dtype, quantized=quantized)
    return Backbone(
        seat.model,
        seat.tokenizer,
        source=ALONE,
        language_source=source,
        precision=precision,
        frozen_dropout=frozen_dropout,
    )


def _near_shape(place: str) -> str:
    return did_you_mean(place, registry.known_names("backbone"))
