"""What `build` is asked for, checked as a whole before anything large is loaded.

Every problem with names, packages, options and settings comes in one error: loading a backbone takes minutes, and
nobody should pay them once for each typing error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crema_core.api.requests import (
    ModalityRequest,
    Request,
    check_encoders,
    check_given,
    choose_major,
    name_and_options,
    resolve_requests,
    with_encoders,
)
from crema_core.errors import Problems
from crema_core.fusion import Fusion, FusionPlan, fusion_class
from crema_core.model.backbone import ALONE, TINY, Backbone
from crema_core.model.precision import check_precision
from crema_core.model.quantization import check_quantization
from crema_core.model.template import PromptTemplate
from crema_core.model.tuning import LanguageLora, parse_tuning
from crema_core.plugins.spec import parse_settings


class ChosenFusion(NamedTuple):
    """A strategy with its options.

    Attributes:
        name: as it was asked for.
        strategy: its class.
        options: all that were given, which a saved model records.
        plan: what is made of it.
    """

    name: str
    strategy: type[Fusion]
    options: dict[str, Any]
    plan: FusionPlan


class Checked(NamedTuple):
    """What is built, every part of it known to exist.

    Attributes:
        requests: resolved senses, in the order of sequential training.
        major: name of the major sense.
        fusion: the strategy.
        tuned: what of the language model is trained.
        backbone: folder, hub id, or one already loaded; the default one filled in.
    """

    requests: list[Request]
    major: str
    fusion: ChosenFusion
    tuned: LanguageLora | Literal["full"] | None
    backbone: str | Path | Backbone


def check(
    modalities: Sequence[ModalityRequest],
    *,
    backbone: str | Path | Backbone | None,
    language_model: str | Path | None,
    fusion: str | Mapping[str, Any],
    encoders: Sequence[str | Mapping[str, Any]] | None,
    major: str | None,
    mmqa: Mapping[str, Any],
    template: PromptTemplate | Mapping[str, Any] | None,
    precision: str,
    quantization: str | None,
    image_size: int | None,
    tuning: Any,
) -> Checked:
    """Check the arguments of `build` of the same names; no weight is read.

    Raises:
        BuildError: holding every problem found; with `CREMA_PLUGINS_STRICT=1` also broken packages that are not used.
    """
    problems = Problems()
    requests: list[Request] = []
    chosen: ChosenFusion | None = None
    tuned: LanguageLora | Literal["full"] | None = None
    with problems.collecting():
        chosen = _choose_fusion(fusion)
    with problems.collecting():
        extended = None if chosen is None else chosen.strategy.extended
        requests = resolve_requests(modalities, mmqa, extended=extended)
    with problems.collecting():
        check_precision(precision)
    with problems.collecting():
        check_quantization(quantization)
    with problems.collecting():
        tuned = parse_tuning(tuning)
    with problems.collecting():
        if not isinstance(template, PromptTemplate):
            parse_settings(PromptTemplate, dict(template or {}), title="template")
    names = [request.spec.name for request in requests]
    if requests:  # else there is no sense to choose from, and the list of senses is the problem to solve first
        with problems.collecting():
            major = choose_major(requests, major)
            if chosen is not None:
                if encoders is not None:
                    with_encoders(requests[names.index(major)], encoders, fusion=chosen.name)
                for request in requests:
                    mixed = chosen.plan.mixes_parts and request.spec.name == major
                    check_encoders(request, fusion=chosen.name, mixed=mixed)
    if backbone is None:
        needs_qformer = chosen is None or chosen.plan.needs_qformer(len(names))
        backbone = TINY if language_model is None or needs_qformer else ALONE
    with problems.collecting():
        check_given(backbone, names, language_model=language_model, image_size=image_size)
    problems.raise_found()
    assert chosen is not None
    assert major is not None
    return Checked(requests, major, chosen, tuned, backbone)


def _choose_fusion(fusion: str | Mapping[str, Any]) -> ChosenFusion:
    name, options = name_and_options(fusion, "fusion")
    strategy = fusion_class(name)
    return ChosenFusion(name, strategy, options, strategy.plan(options))
