"""From what a folder records of a modality to what `build` is asked for, with the package that is installed today.

Between the two lies the life of a package: it may be gone, or a later version that calls its options otherwise. Then it
migrates them (`ModalitySpec.migrate_options`), the user says what they are today, or the error names both versions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from crema_core.errors import (
    BuildError,
    ContractError,
    OptionsError,
    PluginError,
    PluginVersionWarning,
    UnknownModalityError,
)
from crema_core.plugins import registry
from crema_core.plugins.registry import Provider
from crema_core.plugins.spec import OPTION_KEYS_OF_CORE, ModalitySpec
from crema_core.saving.upgrades import go_back, package_change, package_of

Extended = Callable[[ModalitySpec], ModalitySpec]
"""Gives the declaration under which a modality is built, see `Fusion.extended`."""


class Package(Protocol):
    """What provides a modality today: an entry of the registry, or the provenance of a built one."""

    @property
    def distribution(self) -> str:
        """The package; empty for a spec given by hand."""

    @property
    def version(self) -> str:
        """Its version."""


def saved_request(
    place: Path,
    entry: Mapping[str, Any],
    *,
    changes: Mapping[str, Any] | None = None,
    extended: Extended | None = None,
    remedy: str | None = None,
) -> dict[str, Any]:
    """Return what `build` is asked for to have a saved modality again.

    Args:
        place: the folder, for messages.
        entry: the record of the modality, in `crema.json` or `adapter.json`.
        changes: options as they are called today, which go before the saved ones. Saved options that the installed
            package does not know are left out then, with a warning.
        extended: of the fusion.
        remedy: what to type where options do not fit, for messages; None: nothing but another version.

    Raises:
        PluginError: when no package provides the modality, or the one that does cannot be used.
        OptionsError: when the installed package does not take the saved options, naming both versions.
    """
    found = provider_of(entry)
    spec = found.load()
    spec = spec if extended is None else extended(spec)
    options = migrated_options(place, entry, spec, found) | dict(changes or {})
    try:
        spec.parse_options(options)
    except OptionsError as error:
        unknown = {key: value for key, value in options.items() if key not in spec.options.model_fields}
        rest = {key: value for key, value in options.items() if key not in unknown}
        if not changes or unknown.keys() & changes.keys() or not _takes(spec, rest):
            raise OptionsError(_refused(place, entry, found, error, remedy=remedy)) from error
        options = rest
        warnings.warn(
            f"'{place}': {_change(entry, found)}: the installed package does not know the saved options "
            f"{_listed(unknown)} of '{entry['name']}'. They are left out, because options of today were given.",
            PluginVersionWarning,
            stacklevel=4,
        )
    return {"name": reference_of(entry), "mmqa": entry["mmqa"], "prefix": entry["prefix"], **options}


def reference_of(entry: Mapping[str, Any]) -> str:
    """Return what names a saved modality: where several installed packages provide it, the one that wrote it."""
    rivals = [found for found in registry.providers("modality") if found.name == entry["name"] and not found.refusal]
    several = len(rivals) > 1 and all(found.entry is not None for found in rivals)
    return f"{entry['distribution']}:{entry['name']}" if several else str(entry["name"])


def provider_of(entry: Mapping[str, Any]) -> Provider:
    """Return what provides a saved modality today.

    Raises:
        PluginError: as `registry.find`.
    """
    return registry.find("modality", reference_of(entry))


def migrated_options(
    place: Path, entry: Mapping[str, Any], spec: ModalitySpec, found: Package, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return saved options as the installed package calls them; nothing is checked yet.

    Args:
        place: the folder, for messages.
        entry: the record of the modality, with the version of its options.
        spec: the declaration of today.
        found: what provides it.
        options: some of the options, as a person gave them then; None: those of the record.

    Raises:
        OptionsError: when the saved ones are newer than the installed package.
        ContractError: when the package's migration fails.
    """
    options = dict(entry["options"] if options is None else options)
    version = int(entry.get("options_version", 1))
    if version > spec.options_version:
        raise OptionsError(
            f"'{place}': '{entry['name']}' was saved with {package_of(entry)}, whose options are of version {version}. "
            f"{_installed(found)} is here, which reads versions up to {spec.options_version}. Run: pip install -U "
            f"'{entry['distribution']}>={entry['version']}'"
        )
    if version == spec.options_version or spec.migrate_options is None:
        return options
    try:
        result: object = spec.migrate_options(dict(options), version)
    except Exception as error:
        raise ContractError(
            f"'{entry['name']}' ({_installed(found)}): migrate_options failed with {type(error).__name__}: {error} for "
            f"the options {_listed(options)} of version {version}. It takes any of that version's, and may be given "
            "some of them alone. Tell the authors."
        ) from error
    if not isinstance(result, dict):
        raise ContractError(
            f"'{entry['name']}' ({_installed(found)}): migrate_options returned {result!r}. It returns the options as "
            "a dict. Tell the authors."
        )
    return result


def record_of_today(place: Path, entry: Mapping[str, Any], spec: ModalitySpec, found: Package) -> dict[str, Any]:
    """Return the record of a saved modality with the options of today: migrated, and with defaults of new ones.

    Args:
        place: the folder, for messages.
        entry: the record.
        spec: the declaration of today.
        found: what provides it.

    Raises:
        OptionsError, ContractError: as `saved_request`.
    """
    try:
        options = spec.parse_options(migrated_options(place, entry, spec, found))
    except OptionsError as error:
        raise OptionsError(_refused(place, entry, found, error, remedy=None)) from error
    return {**entry, "options": options.model_dump(mode="json")}


def continued_request(
    place: Path,
    item: str | Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    *,
    extended: Extended | None = None,
) -> str | dict[str, Any]:
    """Return an item of `build(modalities=...)` of a run that is continued, its options as they are called today.

    Args:
        place: the run.
        item: as it was given when the run began.
        entries: records of the run's modalities.
        extended: of the fusion.

    Raises:
        BuildError: when its package is absent, naming it.
        OptionsError: when the installed package does not take the options, naming both versions.
    """
    name = str(item if isinstance(item, str) else item["name"]).rpartition(":")[2]
    entry = next((own for own in entries if own["name"] == name), None)
    if entry is None:
        return item if isinstance(item, str) else dict(item)
    try:
        found = provider_of(entry)
        spec = found.load()
    except PluginError as error:
        missing = saved_with(place, [entry], missing=[name]) if is_missing(error) else []
        raise BuildError([error, *missing]) from error
    if isinstance(item, str):
        return item
    spec = spec if extended is None else extended(spec)
    core = {key: value for key, value in item.items() if key in OPTION_KEYS_OF_CORE}
    given = {key: value for key, value in item.items() if key not in core}
    options = migrated_options(place, entry, spec, found, given)
    try:
        spec.parse_options(options)
    except OptionsError as error:
        raise OptionsError(_refused(place, {**entry, "options": given}, found, error, remedy=None)) from error
    return {**core, **options}


def saved_with(
    place: Path, entries: Sequence[Mapping[str, Any]], *, missing: Sequence[str], without: Sequence[str] = ()
) -> list[str]:
    """Return what to say of the packages behind a saved folder that cannot be opened.

    Args:
        place: the folder.
        entries: records of its modalities.
        missing: names of those that nothing installed provides.
        without: those of them that the model can be opened without.
    """
    own = [entry for entry in entries if not missing or entry["name"] in missing]
    packages = sorted({package_of(entry) for entry in own if entry["distribution"]})
    by_hand = [entry["name"] for entry in own if missing and not entry["distribution"]]
    lines = []
    if packages:
        text = f"'{place}' was saved with: {', '.join(packages)}."
        if missing:
            versions = {entry["distribution"]: entry["version"] for entry in own if entry["distribution"]}
            others = {name: other for name in sorted(versions) if (other := _other_version(name))}
            wanted = [f"{name}=={versions[name]}" if name in others else name for name in sorted(versions)]
            text = " ".join([text, *others.values(), f"Run: pip install {' '.join(wanted)}"])
            if without:
                text += f", or {opened_without(without)}"
        lines.append(text)
    if by_hand:
        lines.append(
            f"'{place}' was saved with specs of {', '.join(by_hand)} given by hand. Give them again first: "
            "crema_core.registry.register(SPEC)."
        )
    return lines


def opened_without(names: Sequence[str]) -> str:
    """Return what opens a saved model without some of its modalities, in Python and in a command."""
    return f"open it without: load(..., without={list(names)!r}), or --without {','.join(names)} in a command"


def _other_version(distribution: str) -> str:
    """Return a sentence where another version of a package is installed, which provides something else; else nothing.

    Then `pip install` of its name alone would do nothing.
    """
    own = [found for found in registry.providers("modality") if found.distribution == distribution]
    if not own:
        return ""
    return f"Installed is {own[0].provider}, which provides: {', '.join(sorted(found.name for found in own))}."


def is_missing(error: Exception) -> bool:
    """Return whether an error says that nothing installed provides a modality."""
    return isinstance(error, UnknownModalityError)


def _takes(spec: ModalitySpec, options: dict[str, Any]) -> bool:
    try:
        spec.parse_options(options)
    except OptionsError:
        return False
    return True


def _refused(place: Path, entry: Mapping[str, Any], found: Package, error: OptionsError, *, remedy: str | None) -> str:
    text = (
        f"'{place}': {_change(entry, found)}: the options of '{entry['name']}' that were saved are not those of the "
        f"installed package.\n{error}\nSaved: {_listed(entry['options'])}. {go_back(entry)}"
    )
    return f"{text}, or say what they are today: {remedy}" if remedy else text


def _installed(found: Package) -> str:
    return f"{found.distribution} {found.version}" if found.distribution else registry.BY_HAND


def _change(entry: Mapping[str, Any], found: Package) -> str:
    return package_change(entry, distribution=found.distribution, version=found.version)


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items()) or "none"
