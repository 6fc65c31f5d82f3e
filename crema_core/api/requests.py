"""What `build` is asked for: names and options of senses, resolved before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crema_core.errors import BuildError, CremaError, OptionsError, did_you_mean
from crema_core.model.sense import Provenance
from crema_core.plugins import registry
from crema_core.plugins.spec import MMQASpec, ModalityOptions, ModalitySpec, parse_settings

ModalityRequest = str | Mapping[str, Any] | ModalitySpec


class Request:
    """A resolved entry of `modalities`: spec, validated options, adapter sizes, provenance."""

    def __init__(self, resolved: Any, options: ModalityOptions, mmqa: MMQASpec, prefix: str | None) -> None:
        self.resolved, self.options, self.mmqa, self.prefix = resolved, options, mmqa, prefix
        self.spec: ModalitySpec = resolved.spec
        self.provenance = Provenance(resolved.distribution, resolved.version, self.spec.api_version)

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint says about this sense."""
        return {
            "name": self.spec.name,
            "distribution": self.provenance.distribution,
            "version": self.provenance.version,
            "api_version": self.provenance.api_version,
            "options": self.options.model_dump(mode="json"),
            "mmqa": self.mmqa.model_dump(),
            "prefix": self.spec.prefix if self.prefix is None else self.prefix,
        }


def resolve_requests(modalities: Sequence[ModalityRequest], common: Mapping[str, Any]) -> list[Request]:
    """Resolve names, packages and options of all senses; torch is not needed for it.

    Args:
        modalities: as given to `build`.
        common: adapter sizes of all senses.

    Raises:
        BuildError: holding every problem found.
    """
    if not modalities:
        raise BuildError(
            [
                "No modality was given. A model needs at least one sense. "
                f"Installed: {', '.join(registry.installed_names()) or 'none'}."
            ]
        )
    problems: list[Exception | str] = []
    requests: list[Request] = []
    for item in modalities:
        reference, options = name_and_options(item, "modalities") if not isinstance(item, ModalitySpec) else (item, {})
        sizes, prefix = {**common, **options.pop("mmqa", {})}, options.pop("prefix", None)
        try:
            resolved = registry.resolve(reference)
            spec = resolved.spec
            parsed = spec.parse_options(options)
            merged = parse_settings(MMQASpec, {**spec.mmqa.model_dump(), **sizes}, title=f"{spec.name}.mmqa")
            requests.append(Request(resolved, parsed, merged, prefix))
        except CremaError as error:
            problems.append(error)
    names = [request.spec.name for request in requests]
    problems += [
        f"'{name}' is listed {names.count(name)} times. Each sense is built once. Remove one."
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise BuildError(problems) from next((p for p in problems if isinstance(p, Exception)), None)
    return requests


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
    """Return the major sense: the one asked for, else the one that declares itself so, else the first.

    Raises:
        OptionsError: when the one asked for is not built.
    """
    names = [request.spec.name for request in requests]
    if major is None:
        declared = [request.spec.name for request in requests if request.spec.capabilities.default_major]
        return (declared or names)[0]
    if major not in names:
        raise OptionsError(
            f"major='{major}' is not one of the built senses. Accepted: {', '.join(names)}."
            f"{did_you_mean(major, names)} Add it to modalities, or leave major out."
        )
    return major
