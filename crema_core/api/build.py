"""Build a model from names: `crema_core.build(modalities=[...])`.

All names, packages and options are resolved first and every problem is reported in one error; only then is anything
heavy imported or loaded.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crema_core.api.checked import check
from crema_core.api.encoder_requests import check_encoders, not_mixed
from crema_core.api.model import CremaModel
from crema_core.api.requests import ModalityRequest, Request, resolve_requests
from crema_core.errors import BuildError
from crema_core.fusion import Fusion, FusionPlan, FusionSizes, build_fusion, fusion_class, plan_fusion
from crema_core.fusion.connector import ConnectorFactory, ConnectorRequest
from crema_core.modality import BuildContext, Modality, load_modality_class
from crema_core.model.backbone import ALONE, Backbone
from crema_core.model.checkpoint import is_pretrained
from crema_core.model.connect import make_connector
from crema_core.model.load_backbone import checkpoint_place, load_backbone, load_language_backbone
from crema_core.model.network import CremaNetwork
from crema_core.model.sense import Sense
from crema_core.model.shapes import shapes_alone
from crema_core.model.template import PromptTemplate
from crema_core.model.tuning import Tuning
from crema_core.plugins import registry
from crema_core.plugins.hooks import load_hooks
from crema_core.plugins.spec import ModalityOptions, parse_settings


def build(
    modalities: Sequence[ModalityRequest],
    *,
    backbone: str | Path | Backbone | None = None,
    revision: str | None = None,
    language_model: str | Path | None = None,
    language_revision: str | None = None,
    fusion: str | Mapping[str, Any] = "self_gated",
    encoders: Sequence[str | Mapping[str, Any]] | None = None,
    major: str | None = None,
    mmqa: Mapping[str, Any] | None = None,
    template: PromptTemplate | Mapping[str, Any] | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
    image_size: int | None = None,
    tuning: Tuning = None,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> CremaModel:
    """Build a model on a frozen backbone.

    Args:
        modalities: senses in the order of sequential training, each as `"name"`, `"distribution:name"`,
            `{"name": ..., option: value, ...}` or a `ModalitySpec`. The key "mmqa" of a mapping overrides adapter
            sizes, "prefix" the text before the sense's tokens.
        backbone: folder or hub id in BLIP-2 or InstructBLIP format, or of a video language model, or
            one already loaded. None: "crema-tiny"; nothing but `language_model` where the strategy needs no more.
        revision: hub revision of the backbone.
        language_model: folder or hub id of any causal or encoder-decoder language model of transformers, for the seat
            of the backbone's own (Table 6); every sense then starts with a fresh projection into it.
        language_revision: hub revision of that language model.
        fusion: name of a strategy, or `{"name": ..., option: value}`.
        encoders: several frozen encoders of the major sense, for a strategy that mixes them; each a name or a mapping
            with name, weights, layer, num_frames and so on. The same as the sense's option that names several.
        major: the sense whose frames the others are fused on; by default the one that declares itself so, else the
            first (the paper's Table 20 compares choices).
        mmqa: adapter sizes for all senses, see `MMQASpec`.
        template: wording of questions, see `PromptTemplate`; what is left open comes from the backbone's folder where
            it has wording of its own.
        precision: "fp32", "bf16" or, to answer only, "fp16" where the language model holds it; of the frozen parts.
        frozen_dropout: train with the frozen parts' own dropout as the released code does.
        quantization: "8bit" or "4bit" for a frozen language model that takes less memory; needs bitsandbytes or
            torchao.
        image_size: side in pixels of the square pictures, for a backbone that takes any (Qwen-VL); None: its default.
        tuning: what of the language model is trained too: None (nothing, as CREMA), settings of a LoRA such as
            `{"rank": 64, "alpha": 16}`, or "full".
        device: where to put the model; by default it stays on the CPU.
        seed: of every newly initialised parameter; a sense's start does not depend on which others are built.

    Raises:
        BuildError: holding every problem found with names, packages, requirements, options and settings; nothing was
            loaded then.
        CheckpointError: when the backbone or the language model cannot be loaded.
        PrecisionError: for a precision the language model cannot hold.

    Example:
        >>> model = build(["video"], backbone="crema-tiny")
        >>> model.names
        ('video',)
    """
    hooks = load_hooks()
    requests, major, chosen, tuned, backbone = check(
        modalities,
        backbone=backbone,
        language_model=language_model,
        fusion=fusion,
        encoders=encoders,
        major=major,
        mmqa=mmqa or {},
        template=template,
        precision=precision,
        quantization=quantization,
        image_size=image_size,
        tuning=tuning,
    )
    names, plan = [request.spec.name for request in requests], chosen.plan
    source = backbone.source if isinstance(backbone, Backbone) else str(backbone)
    hooks.call(
        "crema_build_started",
        config={"modalities": tuple(names), "backbone": source, "fusion": chosen.name, "major": major, "seed": seed},
    )
    if backbone == ALONE and language_model is not None:
        backbone = load_language_backbone(
            language_model,
            revision=language_revision,
            precision=precision,
            frozen_dropout=frozen_dropout,
            quantization=quantization,
        )
    elif not isinstance(backbone, Backbone):
        backbone = load_backbone(
            backbone,
            revision=revision,
            language_model=language_model,
            language_revision=language_revision,
            precision=precision,
            frozen_dropout=frozen_dropout,
            quantization=quantization,
            image_size=image_size,
        )
    with _seeded(seed, "language"):
        backbone.tune(tuned)
    wording = (
        template
        if isinstance(template, PromptTemplate)
        else parse_settings(PromptTemplate, {**backbone.template, **(template or {})}, title="template")
    )
    senses = {}
    for request in requests:
        is_major = request.spec.name == major
        if is_major and request.prefix is None:
            request.prefix = plan.major_prefix
        sense = _make_sense(
            request,
            backbone,
            seed,
            connector=plan.major_connector if is_major else plan.support_connector,
            fusion=chosen.name,
            mixed=is_major and plan.mixes_parts,
        )
        senses[request.spec.name] = sense
        hooks.call("crema_modality_built", modality=sense.modality, spec=sense.spec)
    supports = [name for name in names if name != major]
    with _seeded(seed, "fusion"):
        sizes = _fusion_sizes(chosen.name, plan, senses, major, backbone)
        fused = build_fusion(chosen.name, plan, supports, sizes)
    parts = {"fusion": registry.find("fusion", chosen.name).provenance()}
    if backbone.provenance is not None:
        parts["backbone"] = backbone.provenance
    config = {
        "parts": parts,
        "backbone": {
            "source": backbone.source,
            "revision": backbone.revision,
            "precision": backbone.precision,
            **({"image_size": backbone.image_size} if backbone.any_image_size else {}),
        },
        "language_model": None if backbone.language_source is None else backbone.language_source._asdict(),
        "frozen_dropout": backbone.frozen_dropout,
        **({} if quantization is None else {"quantization": quantization}),
        **({} if tuned is None else {"tuning": tuned if tuned == "full" else tuned.model_dump(mode="json")}),
        "fusion": {"name": chosen.name, **chosen.options},
        "major": major,
        "seed": seed,
        "template": wording.model_dump(),
        "modalities": [request.record() for request in requests],
    }
    model = CremaModel(backbone, senses, fused, major=major, template=wording, config=config)
    if device is not None:
        model.to(device)
    hooks.call("crema_model_built", model=model)
    return model


def add_modality(
    model: CremaNetwork, modality: ModalityRequest, *, check: Callable[[dict[str, nn.Parameter]], None] | None = None
) -> None:
    """Add a sense to a built or trained model; nothing of the other senses changes.

    The new fusion block starts at zero, so answers given without the new sense stay bit-identical.

    Args:
        model: the model.
        modality: as in `build`.
        check: is given the parameters the sense would have, keyed as in an adapter file; what it raises goes on to the
            caller, and nothing is changed then.

    Raises:
        BuildError: when the sense is already there or cannot be built; nothing is changed then.
    """
    fusion = model.config["fusion"]["name"]
    request = resolve_requests([modality], {}, extended=fusion_class(fusion).extended)[0]
    name, queries = request.spec.name, model.backbone.query_tokens
    if name in model.modalities:
        raise BuildError(
            [f"The model already has a sense '{name}'. Each sense is built once. Train it, or build a new model."]
        )
    if queries is not None:  # refused before anything is changed
        counts = _query_counts({own: model.sense(own) for own in model.names}, model.major)
        count = request.mmqa.num_queries or int(queries.shape[1])
        _common_queries(counts | {name: count}, fusion, type(model.fusion))
    check_encoders(request, fusion=fusion, mixed=False)
    connector = plan_fusion(model.config["fusion"]).support_connector
    sense = _make_sense(request, model.backbone, model.config["seed"], connector=connector, fusion=fusion, mixed=False)
    if check is not None:
        tried = copy.deepcopy(model.fusion)  # adapters and fusions are small, and a block cannot be taken out again
        _add_support(tried, name, sense, model.config["seed"])
        blocks = {f"fusion.{key}": parameter for key, parameter in tried.block_parameters([name]).items()}
        check(sense.adapter.trained() | blocks)
    load_hooks().call("crema_modality_built", modality=sense.modality, spec=sense.spec)
    _add_support(model.fusion, name, sense, model.config["seed"])
    model.modalities[name] = sense.to(model.device)
    model.config["modalities"].append(request.record())
    model.to(model.device)
    model.train(model.training)


def _add_support(fusion: Fusion, name: str, sense: Sense, seed: int) -> None:
    with _seeded(seed, f"fusion.{name}"):
        fusion.add_support(name, total=len(fusion.supports) + 1, zero=True, token_width=sense.adapter.width)


def _make_sense(
    request: Request, backbone: Backbone, seed: int, *, connector: ConnectorFactory | None, fusion: str, mixed: bool
) -> Sense:
    spec = request.spec
    factory = load_modality_class(request.resolved)
    context = BuildContext(
        vision=None if backbone.vision_model is None else backbone.encode_images,
        vision_dim=backbone.vision_dim,
        image_size=backbone.image_size,
        image_mean=backbone.image_mean,
        image_std=backbone.image_std,
        seed=seed,
        dtype=backbone.dtype,
        frames_per_step=backbone.frames_per_step,
        pretrained=is_pretrained(checkpoint_place(backbone.source)),
    )
    sizes = request.mmqa
    if sizes.num_queries is None and backbone.query_tokens is not None:
        sizes = sizes.model_copy(update={"num_queries": int(backbone.query_tokens.shape[1])})
    with _seeded(seed, spec.name):
        modality: Modality = factory(request.options, context)
        if backbone.shape_only:
            with shapes_alone(modality):
                modality.load_shapes()
        else:
            modality.load_assets(None)
        parts = [part.name for part in modality.feature_parts]
        if parts and not mixed:
            raise BuildError([not_mixed(spec.name, parts, fusion=fusion)])
        made = make_connector(connector, ConnectorRequest(modality, sizes, backbone), backbone)
    sense = Sense(modality, made, sizes, request.provenance, request.prefix)
    sense.defaults = _filled_in(request.options, modality.options)
    request.options = modality.options  # what was chosen is what a saved model records
    return sense


def _filled_in(asked: ModalityOptions, built: ModalityOptions) -> dict[str, Any]:
    """Return the options that were left open and that the modality chose for this backbone."""
    left_open = [name for name, value in asked if value is None]
    return {name: value for name in left_open if (value := getattr(built, name)) is not None}


def _fusion_sizes(
    name: str, plan: FusionPlan, senses: Mapping[str, Sense], major: str, backbone: Backbone
) -> FusionSizes:
    count = senses[major].adapter.num_tokens
    return FusionSizes(
        width=backbone.language_dim,
        num_queries=_common_queries(_query_counts(senses, major), name, plan.fusion),
        major_queries=count,
        token_widths={own: sense.adapter.width for own, sense in senses.items()},
        visual=None if backbone.visual is None else backbone.visual.layout,
    )


def _query_counts(senses: Mapping[str, Sense], major: str) -> dict[str, int]:
    """Return the number of queries of the senses that pass the Q-Former."""
    counts = {name: sense.adapter.num_tokens or 0 for name, sense in senses.items() if sense.adapter.passes_qformer}
    return counts or {major: senses[major].mmqa.num_queries or senses[major].adapter.num_tokens or 0}


def _common_queries(counts: Mapping[str, int], fusion: str, strategy: type[Fusion]) -> int:
    if strategy.one_query_count and len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise BuildError(
            [
                f"The senses have different numbers of queries: {listed}. Fusion '{fusion}' needs one number for all. "
                "Set mmqa={'num_queries': ...}, or use fusion='concat'."
            ]
        )
    return next(iter(counts.values()))


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Seed torch's generator from the name for a while, so that no initialisation depends on the others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        yield
