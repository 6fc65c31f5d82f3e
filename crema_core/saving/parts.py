"""Which packages the parts of a model come from, beside its modalities: fusion, backbone family, encoders.

They are written into `crema.json` and compared before the model is built again, so that an absent package is named with
what installs it. Models saved before they were written load all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crema_core.errors import BuildError, CremaError
from crema_core.plugins import registry
from crema_core.plugins.registry import KINDS, KindName

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork

PARTS = "parts"
"""Key of a model's configuration: kind -> name, distribution and version; of encoders a list."""


def encoders_of(model: CremaNetwork) -> list[dict[str, str]]:
    """Return name and package of every encoder of the group `crema.encoders` that the model's modalities run."""
    running = {type(module) for name in model.names for module in model.sense(name).modality.modules()}
    names = {getattr(kind, "name", "") for kind in running}
    return [
        found.provenance()
        for found in registry.providers("encoder")
        if found.name in names and found.refusal is None and found.load() in running
    ]


def with_parts(model: CremaNetwork) -> dict[str, Any]:
    """Return the configuration of a model with all its parts, as it is saved."""
    encoders = encoders_of(model)
    parts = {**model.config.get(PARTS, {}), **({"encoders": encoders} if encoders else {})}
    return {**model.config, PARTS: parts}


def check_parts(place: Path, manifest: Mapping[str, Any]) -> None:
    """Look for the packages of all parts, before anything is built.

    Args:
        place: the saved model, for the message.
        manifest: its `crema.json`.

    Raises:
        BuildError: naming every part that is not there and what installs its package.
    """
    problems: list[CremaError | str] = []
    for kind, part in _parts(manifest):
        if part["name"] in registry.installed_names(kind):
            continue
        noun = KINDS[kind].noun
        if part["distribution"]:
            problems.append(
                f"'{place}' needs the {noun} '{part['name']}' of {part['distribution']} {part['version']}, which is "
                f"not installed. Run: pip install {_package_of(kind, part)}"
            )
        else:
            problems.append(
                f"'{place}' needs the {noun} '{part['name']}', which was registered by hand. Register it again first: "
                f"crema_core.registry.register(..., kind='{kind}', name='{part['name']}')"
            )
    if problems:
        raise BuildError(problems)


def _package_of(kind: KindName, part: Mapping[str, str]) -> str:
    """Return what to install: the package that the part came from, or the one that it moved to out of core since."""
    moved = registry.known_packages(kind).get(part["name"]) if part["distribution"] == "crema-core" else None
    return moved or part["distribution"]


def fusion_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved fusion as `build` takes it: where several packages provide its name, the one that wrote it."""
    fusion, part = dict(manifest["fusion"]), manifest.get(PARTS, {}).get("fusion")
    rivals = [found for found in registry.providers("fusion") if part and found.name == part["name"]]
    if part and part["distribution"] and len(rivals) > 1:
        fusion["name"] = f"{part['distribution']}:{part['name']}"
    return fusion


def _parts(manifest: Mapping[str, Any]) -> Iterator[tuple[KindName, Mapping[str, str]]]:
    parts = manifest.get(PARTS, {})
    for kind in ("fusion", "backbone"):
        if kind in parts:
            yield kind, parts[kind]
    for part in parts.get("encoders", ()):
        yield "encoder", part
