"""Build a model from names: `crema_core.build(modalities=[...])`.

All names, packages and options are resolved first and every problem is reported in one error; only then is anything
heavy imported or loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from crema_core.api.assembly import fusion_sizes, make_branch, seeded, starting_gain
from crema_core.api.model import CremaModel
from crema_core.api.requests import ModalityRequest, check
from crema_core.fusion import build_fusion
from crema_core.model.backbone import Backbone
from crema_core.model.load_backbone import read_backbone
from crema_core.model.revisions import REVISIONS, recording
from crema_core.model.settings import ModelSettings
from crema_core.model.template import PromptTemplate
from crema_core.plugins import registry
from crema_core.plugins.hooks import Hooks, load_hooks
from crema_core.plugins.spec import parse_settings, with_changes


def build(
    modalities: Sequence[ModalityRequest],
    settings: ModelSettings | None = None,
    *,
    backbone: str | Path | Backbone | None = None,
    device: str | torch.device | None = None,
    **changes: object,
) -> CremaModel:
    """Build a model on a frozen backbone.

    Args:
        modalities: in the order of sequential training, each as `"name"`, `"distribution:name"`,
            `{"name": ..., option: value, ...}` or a `ModalitySpec`. The key "mmqa" of a mapping overrides adapter
            sizes, "prefix" the text before the modality's tokens.
        settings: of the model, whole; None: the defaults.
        backbone: as the setting of this name, or one already loaded (`load_backbone`).
        device: where to put the model; by default it stays on the CPU.
        **changes: single settings, the fields of `ModelSettings`: revision, language_model, precision, quantization,
            image_size, fusion, encoders, tuning, major, mmqa, template, seed and so on.

    Raises:
        OptionsError: for an unknown setting, or a value of another type.
        BuildError: holding every problem found with names, packages, requirements, options and settings; nothing was
            loaded then.
        CheckpointError: when the backbone or the language model cannot be loaded.
        PrecisionError: for a precision the language model cannot hold.

    Example:
        >>> model = build(["video"], backbone="crema-tiny", seed=1)
        >>> model.names
        ('video',)
    """
    loaded = backbone if isinstance(backbone, Backbone) else None
    if backbone is not None:
        changes["backbone"] = backbone if loaded is None else loaded.source
    settings = with_changes(settings or ModelSettings(), changes, title="build")
    hooks = load_hooks()
    with recording() as revisions:
        return _built(modalities, settings, loaded, hooks, device, revisions)


def _built(
    modalities: Sequence[ModalityRequest],
    settings: ModelSettings,
    loaded: Backbone | None,
    hooks: Hooks,
    device: str | torch.device | None,
    revisions: Mapping[str, Mapping[str, str]],
) -> CremaModel:
    settings, requests, fusion, plan, tuned = check(modalities, settings, loaded)
    names, name, major = [request.spec.name for request in requests], str(fusion["name"]), str(settings.major)
    hooks.call(
        "crema_build_started",
        config={
            "modalities": tuple(names),
            "backbone": settings.source,
            "fusion": name,
            "major": major,
            "seed": settings.seed,
        },
    )
    if loaded is None:
        loaded = read_backbone(settings)
    with seeded(settings.seed, "language"):
        loaded.tune(tuned)
    wording = parse_settings(PromptTemplate, {**loaded.template, **settings.template}, title="template")
    branches = {}
    for request in requests:
        is_major = request.spec.name == major
        if is_major and request.prefix is None:
            request.prefix = loaded.major_prefix if plan.major_prefix is None else plan.major_prefix
        branch = make_branch(
            request,
            loaded,
            settings.seed,
            plan=plan,
            fusion=name,
            major=is_major,
        )
        branches[request.spec.name] = branch
        hooks.call("crema_modality_built", modality=branch.modality, spec=branch.spec)
    revisions = {**loaded.revisions, **revisions}
    supporting = [own for own in names if own != major]
    with seeded(settings.seed, "fusion"):
        fused = build_fusion(name, plan, supporting, fusion_sizes(name, plan, branches, major, loaded))
    parts = {"fusion": registry.find("fusion", name).provenance()}
    if loaded.provenance is not None:
        parts["backbone"] = loaded.provenance
    config = {
        "parts": parts,
        **loaded.record(),
        **({} if tuned is None else {"tuning": tuned if tuned == "full" else tuned.model_dump(mode="json")}),
        "fusion": fusion,
        "major": major,
        "seed": settings.seed,
        "template": wording.model_dump(),
        "modalities": [request.record() for request in requests],
        **({REVISIONS: {place: dict(own) for place, own in revisions.items()}} if revisions else {}),
    }
    model = CremaModel(loaded, branches, fused, major=major, template=wording, config=config)
    if device is not None:
        model.to(device)
    fused_tokens = [own for own in names if not branches[own].modality.own_tokens]
    if loaded.own_sight() and plan.supporting_connector is None and fused_tokens and not loaded.shape_only:
        model.to(model.device)  # a backbone object may be elsewhere than the new adapters
        model.config["gain"] = model.language.gain = starting_gain(model)
    hooks.call("crema_model_built", model=model)
    return model
