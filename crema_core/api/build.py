"""Build a model from names: `crema_core.build(modalities=[...])`.

All names, packages and options are resolved first and every problem is reported in one error; only then is anything
heavy imported or loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crema_core.api.assembly import fusion_sizes, make_sense, seeded
from crema_core.api.checked import check
from crema_core.api.model import CremaModel
from crema_core.api.requests import ModalityRequest
from crema_core.fusion import build_fusion
from crema_core.model.backbone import ALONE, Backbone
from crema_core.model.load_backbone import load_backbone, load_language_backbone
from crema_core.model.template import PromptTemplate
from crema_core.model.tuning import Tuning
from crema_core.plugins import registry
from crema_core.plugins.hooks import load_hooks
from crema_core.plugins.spec import parse_settings


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
    with seeded(seed, "language"):
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
        sense = make_sense(
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
    with seeded(seed, "fusion"):
        sizes = fusion_sizes(chosen.name, plan, senses, major, backbone)
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
