"""What `build` is asked for, resolved and checked as a whole before anything large is loaded.

Every problem with names, packages, options and settings comes in one error: loading a backbone takes minutes, and
nobody should pay them once for each typing error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from crema_core.errors import BuildError, OptionsError, Problems, did_you_mean
from crema_core.fusion import fusion_class
from crema_core.fusion.base import FusionPlan
from crema_core.model.backbone import ALONE, TINY, Backbone
from crema_core.model.network import Provenance
from crema_core.model.precision import check_precision
from crema_core.model.quantization import check_quantization
from crema_core.model.settings import BackboneSettings, ModelSettings
from crema_core.model.template import PromptTemplate
from crema_core.model.tuning import LanguageLora, parse_tuning
from crema_core.plugins import registry
from crema_core.plugins.loading import ResolvedPlugin
from crema_core.plugins.spec import ModalitySpec, parse_settings

ModalityRequest = str | Mapping[str, Any] | ModalitySpec


class Request:
    """A resolved entry of `modalities`: spec, validated options, adapter sizes, provenance."""

    def __init__(self, resolved: ResolvedPlugin) -> None:
        self.resolved, self.spec = resolved, resolved.spec
        self.options, self.prefix = resolved.options, resolved.prefix
        self.mmqa = resolved.spec.mmqa if resolved.mmqa is None else resolved.mmqa
        self.provenance = Provenance(resolved.distribution, resolved.version, self.spec.api_version)

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint gives about this modality."""
        return {
            "name": self.spec.name,
            "distribution": self.provenance.distribution,
            "version": self.provenance.version,
            "api_version": self.provenance.api_version,
            "options": self.options.model_dump(mode="json"),
            **({"options_version": version} if (version := self.spec.options_version) > 1 else {}),
            "mmqa": self.mmqa.model_dump(),
            "prefix": self.spec.prefix if self.prefix is None else self.prefix,
        }


class Checked(NamedTuple):
    """What is built, every part of it known to exist."""

    settings: ModelSettings  # with the default backbone and the major modality filled in
    requests: list[Request]  # resolved modalities, in the order of sequential training
    fusion: dict[str, Any]  # name and options of the strategy, as they were given
    plan: FusionPlan  # what is made of it
    tuned: LanguageLora | Literal["full"] | None  # what of the language model is trained


def check(modalities: Sequence[ModalityRequest], settings: ModelSettings, loaded: Backbone | None) -> Checked:
    """Check what `build` is asked for; no weight is read.

    Args:
        modalities: as given to `build`.
        settings: of the model.
        loaded: the backbone where it is loaded already.

    Raises:
        BuildError: holding every problem found; with `CREMA_PLUGINS_STRICT=1` also broken packages that are not used.
    """
    problems = Problems()
    requests: list[Request] = []
    plan: FusionPlan | None = None
    extended = tuned = None
    options: dict[str, Any] = {}
    major, fusion = settings.major, settings.fusion
    with problems.collecting():
        name, options = name_and_options(settings.fusion, "fusion")
        fusion, strategy = name, fusion_class(name)
        extended, plan = strategy.extended, strategy.plan(options)
    with problems.collecting():
        requests = resolve_requests(modalities, settings.mmqa, extended=extended)
    with problems.collecting():
        check_precision(settings.precision)
    with problems.collecting():
        check_quantization(settings.quantization)
    with problems.collecting():
        tuned = parse_tuning(settings.tuning)
    with problems.collecting():
        parse_settings(PromptTemplate, settings.template, title="template")
    names = [request.spec.name for request in requests]
    if requests:  # else there is no modality to choose from, and the list is the problem to solve first
        with problems.collecting():
            major = choose_major(requests, major)
            if plan is not None:
                _keep_start(requests[names.index(major)], modalities[names.index(major)])
                if settings.encoders is not None:
                    _with_encoders(requests[names.index(major)], settings.encoders, fusion=str(fusion))
                for request in requests:
                    mixed = plan.mixes_parts and request.spec.name == major
                    check_encoders(request, fusion=str(fusion), mixed=mixed)
    backbone = settings.backbone
    if backbone is None:
        needs_qformer = plan is None or plan.needs_qformer(len(names))
        backbone = TINY if settings.language_model is None or needs_qformer else ALONE
    settings = settings.model_copy(update={"backbone": backbone, "major": major})
    with problems.collecting():
        _check_backbone(settings, names, loaded)
    problems.raise_found()
    assert plan is not None
    return Checked(settings, requests, {"name": fusion, **options}, plan, tuned)


def resolve_requests(
    modalities: Sequence[ModalityRequest],
    common: Mapping[str, Any],
    *,
    extended: Callable[[ModalitySpec], ModalitySpec] | None = None,
) -> list[Request]:
    """Resolve names, packages, options and requirements of all modalities, see `registry.resolve_all`; without torch.

    Args:
        modalities: as given to `build`.
        common: adapter sizes of all modalities.
        extended: the declaration under which a modality is built, see `Fusion.extended`.

    Raises:
        BuildError: holding every problem found.
        PluginLoadError: with `CREMA_PLUGINS_STRICT=1`, when any installed plugin is broken.
    """
    if not modalities:
        raise BuildError(
            [
                "No modality was given. A model needs at least one modality. "
                f"Installed: {', '.join(registry.installed_names()) or 'none'}."
            ]
        )
    return [Request(plugin) for plugin in registry.resolve_all(modalities, mmqa=common, extended=extended)]


def name_and_options(item: Any, what: str) -> tuple[Any, dict[str, Any]]:
    """Split a name, or a mapping with a name and options, in two.

    Raises:
        OptionsError: for anything else.
    """
    if isinstance(item, str):
        return item, {}
    if isinstance(item, Mapping) and "name" in item:
        return item["name"], {key: value for key, value in item.items() if key != "name"}
    raise OptionsError(
        f"{what}: {item!r} names nothing. Accepted: a name, or a mapping with 'name' and options. "
        "Write {'name': ..., 'option': value}."
    )


def choose_major(requests: Sequence[Request], major: str | None) -> str:
    """Return the major modality: the one asked for, else the one that declares itself so, else the first.

    Raises:
        OptionsError: when the one asked for is not built.
    """
    names = [request.spec.name for request in requests]
    if major is None:
        declared = [request.spec.name for request in requests if request.spec.capabilities.default_major]
        return (declared or names)[0]
    if major not in names:
        raise OptionsError(
            f"major='{major}' is not one of the built modalities. Accepted: {', '.join(names)}."
            f"{did_you_mean(major, names)} Add it to modalities, or leave major out."
        )
    return major


def _keep_start(major: Request, item: ModalityRequest) -> None:
    """Leave the start of the major modality's output projection to its own sizes: the common one is the others'."""
    own = item.get("mmqa") if isinstance(item, Mapping) else None
    if "output_start" not in (own or {}):
        major.mmqa = major.mmqa.model_copy(update={"output_start": major.spec.mmqa.output_start})


def _check_backbone(settings: ModelSettings, names: Sequence[str], loaded: Backbone | None) -> None:
    """Refuse settings that loading would have taken, and an object that carries another model's adapters."""
    if settings.image_size is not None and (loaded is not None or settings.backbone == ALONE):
        problem = (
            f"image_size={settings.image_size} needs a backbone that is loaded here and sees pictures. Accepted with "
            "it: a folder or hub id of a Qwen-VL model as backbone. Pass load_backbone(..., image_size=...), or leave "
            "it out."
        )
    elif loaded is None:
        return
    elif settings.language_model is not None:
        problem = (
            f"language_model='{settings.language_model}' comes with a backbone object, which has its language model "
            "already. Accepted: a folder or hub id as backbone. Pass load_backbone(..., language_model=...) instead."
        )
    elif existing := [
        name
        for name in names
        if loaded.qformer and (loaded.qformer.lora_parameters(name) or loaded.qformer.owner == name)
    ]:
        problem = (
            f"This backbone object already carries adapters for: {', '.join(existing)}. A backbone object serves one "
            "model. Pass a folder or hub id, or load_backbone(...) again."
        )
    elif ignored := [
        name
        for name in BackboneSettings.model_fields
        if name in settings.model_fields_set and getattr(settings, name) != getattr(loaded.settings, name)
    ]:
        problem = (
            f"{', '.join(ignored)} came with a backbone object, which is loaded already and stays as it is. Accepted "
            "beside it: what it was loaded with. Pass load_backbone(...) these settings, or leave them out."
        )
    else:
        return
    raise BuildError([problem])


def _with_encoders(request: Request, encoders: Sequence[str | Mapping[str, Any]], *, fusion: str) -> None:
    """Set the option of the major modality that names several encoders; its declaration states which option it is."""
    spec, given = request.spec, request.options.model_dump(exclude_unset=True)
    option = spec.capabilities.several_encoders
    if option is None:
        raise BuildError(
            [
                f"encoders came, and the major modality '{spec.name}' takes one alone with fusion '{fusion}'. "
                "Accepted: a fusion that mixes several encoders, and a major modality that sees through encoders of "
                "its choice. Choose both, or leave encoders out."
            ]
        )
    if given.get(option) is not None:
        raise BuildError(
            [
                f"encoders came twice, as an argument of build and as the option '{option}' of '{spec.name}'. "
                "Accepted: one of both. Leave the option out."
            ]
        )
    request.options = spec.parse_options({**given, option: encoders})


def check_encoders(request: Request, *, fusion: str, mixed: bool) -> None:
    """Refuse encoders nobody mixes, and a fusion that mixes where there are none.

    Args:
        request: a modality; one that declares no option for several encoders passes, its features may have parts all
            the same.
        fusion: name of the strategy, for messages.
        mixed: whether the strategy mixes the encoders of this modality.

    Raises:
        BuildError: naming what to change.
    """
    option = request.spec.capabilities.several_encoders
    if option is None:
        return
    given = request.options.model_dump()[option]
    if given and not mixed:
        names = [one["name"] if isinstance(one, Mapping) and "name" in one else str(one) for one in given]
        raise BuildError([not_mixed(request.spec.name, names, fusion=fusion)])
    if not given and mixed:
        raise BuildError(
            [
                f"fusion '{fusion}' mixes several encoders of the major modality, and '{request.spec.name}' has none "
                "to mix. Accepted: a major modality that sees through several. Write build(..., encoders=['dinov2', "
                "'siglip'])."
            ]
        )


def not_mixed(modality: str, encoders: Iterable[str], *, fusion: str) -> str:
    """Return what is said of encoders nobody mixes."""
    return (
        f"'{modality}' has several encoders ({', '.join(encoders)}), and fusion '{fusion}' does not mix them. "
        "Accepted: a fusion that mixes several encoders, with this modality as the major one, or one encoder. Choose "
        "such a fusion, or leave the encoders out."
    )
