"""What `build` is asked for: names and options of senses, resolved before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crema_core.errors import BuildError, OptionsError, did_you_mean
from crema_core.model.sense import Provenance
from crema_core.plugins import registry
from crema_core.plugins.loading import ResolvedPlugin
from crema_core.plugins.spec import ModalitySpec

ModalityRequest = str | Mapping[str, Any] | ModalitySpec


class Request:
    """A resolved entry of `modalities`: spec, validated options, adapter sizes, provenance."""

    def __init__(self, resolved: ResolvedPlugin) -> None:
        self.resolved, self.spec = resolved, resolved.spec
        self.options, self.prefix = resolved.options, resolved.prefix
        self.mmqa = resolved.spec.mmqa if resolved.mmqa is None else resolved.mmqa
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


def resolve_requests(
    modalities: Sequence[ModalityRequest],
    common: Mapping[str, Any],
    *,
    extended: Callable[[ModalitySpec], ModalitySpec] | None = None,
) -> list[Request]:
    """Resolve names, packages, options and requirements of all senses, see `registry.resolve_all`; without torch.

    Args:
        modalities: as given to `build`.
        common: adapter sizes of all senses.
        extended: the declaration under which a sense is built, see `Fusion.extended`.

    Raises:
        BuildError: holding every problem found.
        PluginLoadError: with `CREMA_PLUGINS_STRICT=1`, when any installed plugin is broken.
    """
    if not modalities:
        raise BuildError(
            [
                "No modality was given. A model needs at least one sense. "
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
