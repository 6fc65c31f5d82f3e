"""Loading a backbone: a folder, a hub id, the one shipped in the package, or a shape without weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from crema_core.errors import CheckpointError, PluginError, did_you_mean
from crema_core.model.backbone import ALONE, TINY, Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest, NamedCheckpoint, NamedShape
from crema_core.model.chat_format import ChatFormat, tokenizer_chat_format
from crema_core.model.checkpoint import own_template, read_config, read_json, read_tokenizer
from crema_core.model.language_override import load_override, read_override_config
from crema_core.model.revisions import recording
from crema_core.model.settings import BackboneSettings
from crema_core.plugins import registry
from crema_core.plugins.spec import parse_settings

FALLBACK = "any"
"""Entries of the group `crema.backbones` whose names begin so are asked about model types without an entry."""


def load_backbone(backbone: str | Path, **settings: object) -> Backbone:
    """Load a backbone that several models are built on, one after the other.

    Args:
        backbone: as the field of `BackboneSettings`.
        **settings: its other fields: revision, language_model, precision and so on.

    Raises:
        OptionsError: for an unknown setting or a wrong value.
        CremaError: as `read_backbone`.

    Example:
        >>> load_backbone("crema-tiny", precision="bf16").dtype
        torch.bfloat16
    """
    parsed = parse_settings(BackboneSettings, {"backbone": backbone, **settings}, title="load_backbone")
    return read_backbone(parsed)


def read_backbone(settings: BackboneSettings) -> Backbone:
    """Load a checkpoint of any installed backbone family, or a language model alone.

    Args:
        settings: what is loaded, and how.

    Raises:
        CheckpointError: when nothing loads from the place, or no installed family loads it.
        PluginError: when the family's package is switched off, broken, or not the only one.
        OptionsError: for an image size the backbone cannot take.
        PrecisionError: for a precision the language model cannot hold.
    """
    with recording() as revisions:
        backbone = _read(settings)
    backbone.revisions = {place: dict(own) for place, own in revisions.items()}
    return backbone


def _read(settings: BackboneSettings) -> Backbone:
    if settings.source == ALONE and settings.language_model is not None:
        return _language_alone(settings, settings.language_model)
    place = settings.source
    named = _named(place)
    language = settings.language_model
    request = BackboneRequest(
        settings,
        str(named.place()) if isinstance(named, NamedCheckpoint) else place,
        None if language is None else read_override_config(language, settings.language_revision),
    )
    shape = named if isinstance(named, NamedShape) else None
    config = _config(request) if shape is None else shape.config()
    found, loader = find_family(config, place)
    backbone = loader.load(config, request) if shape is None else loader.shape(config, request)
    backbone.weights = None if shape is None else shape.weights
    backbone.provenance = found.provenance()
    return backbone


def read_answer_format(settings: BackboneSettings) -> tuple[ChatFormat, dict[str, Any]]:
    """Read how the language model of a backbone tokenizes answers; no weights are read.

    Args:
        settings: what would be loaded; of a published shape, its weights' tokenizer.

    Returns:
        The format of answers, and the wording the checkpoint brings along (settings of `PromptTemplate`).

    Raises:
        CheckpointError: when there is no configuration or tokenizer at the place.
        PluginError: when the backbone's package is switched off, broken, or not the only one.
    """
    if settings.language_model is not None:
        place, revision = settings.language_model, settings.language_revision
        config = read_override_config(place, revision)
        return tokenizer_chat_format(read_tokenizer(place, revision), is_encoder_decoder=config.is_encoder_decoder), {}
    named, revision = _named(settings.source), settings.revision
    if isinstance(named, NamedShape):
        place, config = named.weights, named.config()
    else:
        place = settings.source if named is None else str(named.place())
        config = _config(BackboneRequest(settings, place))
    language: PreTrainedConfig = getattr(config, "text_config", config)
    tokenizer = read_tokenizer(place, revision)
    answers = tokenizer_chat_format(tokenizer, is_encoder_decoder=bool(language.is_encoder_decoder))
    return answers, own_template(place, revision)


def _language_alone(settings: BackboneSettings, place: str) -> Backbone:
    """Load a language model and nothing before it, for strategies whose modalities bring all that."""
    config = read_override_config(place, settings.language_revision)
    request = BackboneRequest(settings.model_copy(update={"revision": None}), ALONE, config)
    quantized = request.quantized(config)
    model, tokenizer = load_override(settings, config, dtype=request.dtype(config), quantized=quantized)
    return Backbone(model, tokenizer, settings=request.settings)


def find_family(config: PreTrainedConfig, source: str) -> tuple[registry.Provider, BackboneFamily]:
    """Return what loads a checkpoint: the family of its model type, else the first `any-...` that recognises it.

    Args:
        config: of the whole checkpoint.
        source: how the checkpoint was named, for the message.

    Raises:
        CheckpointError: when no installed family loads it; it states which package does, where that is known.
        PluginError: when the family's package is switched off, broken, or not the only one.
    """
    names = registry.usable_names("backbone")
    for name in dict.fromkeys((config.model_type, *(name for name in names if name.startswith(FALLBACK)))):
        if name not in registry.installed_names("backbone"):
            continue
        try:
            found = registry.find("backbone", name)
            family = found.load()
        except PluginError as error:
            if name == config.model_type:
                raise
            # One that would only be asked whether it knows this type: a broken package stops no other one.
            warnings.warn(f"{error} Without it, '{source}' is loaded by another family.", stacklevel=2)
            continue
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
    """Return the names of families; those of checkpoints and of broken packages are left out."""
    return [name for name, found in _entries() if isinstance(found, BackboneFamily)]


def _entries() -> Iterator[tuple[str, object]]:
    """Yield what the installed packages offer as backbones, by name; broken packages are left out."""
    for name in registry.usable_names("backbone"):
        try:
            yield name, registry.load("backbone", name)
        except PluginError:
            continue


def _nearest(place: str) -> str:
    """Return the advice for a place where nothing was found: the shape of these weights, else the nearest name."""
    for name, found in _entries():
        if isinstance(found, NamedShape) and found.weights.lower() == place.lower():
            return f" To count without weights (crema describe, crema plan): backbone='{name}'."
    return did_you_mean(place, registry.known_names("backbone"))


def _config(request: BackboneRequest) -> PreTrainedConfig:
    if Path(request.place).is_file():
        raise CheckpointError(
            f"'{request.place}' is a file. Accepted: a folder or hub id with config.json beside its weights. Name the "
            "folder; released files of other code are converted first, by a verb that crema --help lists."
        )
    # A family may bring configuration classes that transformers does not have: it is imported first.
    plain = read_json(request.place, "config.json", revision=request.settings.revision) or {}
    if plain.get("model_type") in registry.usable_names("backbone"):
        registry.load("backbone", plain["model_type"])
    return read_config(
        request.place,
        request.settings.revision,
        what="backbone",
        accepted=f"a folder or hub id in BLIP-2 or InstructBLIP format, or '{TINY}'",
        try_next="Try backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable." + _nearest(request.place),
    )
