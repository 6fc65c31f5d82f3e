"""The registry of senses: list what is installed, describe it, and find what a user's words mean.

Nothing here imports torch. Nothing is kept that installed metadata does not say, except specs registered by hand, so
worker processes and ranks find the same plugins. A broken package never stops another one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from crema_core.errors import (
    DuplicateModalityError,
    IncompatiblePluginError,
    OptionsError,
    PluginError,
    PluginLoadError,
    Problems,
)
from crema_core.plugins import lookup
from crema_core.plugins._metadata import Distribution, InstalledEntryPoint, distributions, same_distribution
from crema_core.plugins.factory import check_requirements, load_modality_class
from crema_core.plugins.loading import check_api_version
from crema_core.plugins.lookup import installed_names
from crema_core.plugins.policy import Policy
from crema_core.plugins.records import PluginRecord, ResolvedPlugin, Status
from crema_core.plugins.spec import MMQASpec, ModalityOptions, ModalitySpec, parse_settings

__all__ = [
    "PluginRecord",
    "ResolvedPlugin",
    "describe",
    "distribution_of",
    "installed_names",
    "list_modalities",
    "load_modality_class",
    "refresh",
    "register",
    "resolve",
    "resolve_all",
]

ModalityReference = str | Mapping[str, Any] | ModalitySpec
"""What names a sense: `"name"`, `"distribution:name"`, `{"name": ..., **options}` or a spec."""


def list_modalities() -> tuple[PluginRecord, ...]:
    """Return one record per provider of every name, sorted by name; imports light modules only.

    Raises:
        PluginLoadError: only with `CREMA_PLUGINS_STRICT=1`, when an installed plugin is broken or incompatible.
    """
    policy = Policy.from_environment()
    entries = lookup.entry_points()
    policy.warn_about_strangers(entries)
    providers = Counter(entry.name for entry in entries if policy.refusal(entry) is None)
    records = [_record(entry, policy, providers[entry.name]) for entry in entries]
    records += [
        PluginRecord(spec.name, "", "", spec.factory, "ok", summary=spec.summary) for spec in lookup.registered.values()
    ]
    broken = [record.error for record in records if record.status in ("broken", "incompatible")]
    if policy.strict and broken:
        raise PluginLoadError(
            f"{len(broken)} installed plugin(s) cannot be used, which CREMA_PLUGINS_STRICT=1 makes an error:\n"
            + "\n".join(f"- {error}" for error in broken)
        )
    return tuple(sorted(records, key=lambda record: (record.name, record.distribution)))


def describe(name: str) -> dict[str, Any]:
    """Return a sense's declaration, provenance and status as JSON data; imports no torch.

    Args:
        name: a modality's name or `distribution:name`.

    Raises:
        PluginError: as `resolve`.

    Example:
        >>> describe("video")["encoder"]
        'vision'
    """
    plugin = resolve(name)
    return {
        **plugin.spec.describe(),
        "distribution": plugin.distribution,
        "version": plugin.version,
        "reference": plugin.reference,
        "status": "ok",
    }


def resolve(item: ModalityReference, *, mmqa: Mapping[str, Any] | None = None) -> ResolvedPlugin:
    """Find the one plugin an item names, load its spec and validate its options.

    Args:
        item: `"name"`, `"distribution:name"`, `{"name": ..., **options}` or a spec. The key "mmqa" of a mapping holds
            adapter sizes, "prefix" the text before the tokens.
        mmqa: adapter sizes of all items, where an item has none of its own.

    Raises:
        UnknownModalityError: nothing provides the name; the message says what is near or what to install.
        DuplicateModalityError: several packages do.
        PluginDisabledError: an environment variable switches it off.
        PluginLoadError: its module cannot be imported.
        IncompatiblePluginError: it was written for another major version of the contract.
        ContractError: its entry point does not name a spec of the same name.
        OptionsError: an option has a wrong name or value.
    """
    name, options = _split(item)
    return _with_options(_provider(name), options, mmqa or {})


def resolve_all(items: Iterable[ModalityReference], *, mmqa: Mapping[str, Any] | None = None) -> list[ResolvedPlugin]:
    """Resolve every item and check its requirements, in the order given, before anything heavy is imported.

    `build` and everything else that takes a list of modalities resolves it here.

    Args:
        items: each as for `resolve`.
        mmqa: adapter sizes of all items.

    Raises:
        BuildError: with every problem of every item, not only the first.
        PluginLoadError: with `CREMA_PLUGINS_STRICT=1`, when any installed plugin is broken.
    """
    if isinstance(items, str | Mapping | ModalitySpec):
        raise OptionsError(f"modalities is one item, {items!r}. Accepted is a list of items. Write: modalities=[...]")
    policy = Policy.from_environment()
    policy.warn_about_strangers(lookup.entry_points())
    if policy.strict:
        list_modalities()
    plugins: list[ResolvedPlugin] = []
    counts: Counter[str] = Counter()
    problems = Problems()
    for item in items:
        with problems.collecting():
            name, options = _split(item)
            plugin = _provider(name)
            counts[plugin.spec.name] += 1
            with problems.collecting():  # wrong options do not hide a missing requirement
                check_requirements(plugin)
            plugins.append(_with_options(plugin, options, mmqa or {}))
    problems.found += [
        OptionsError(f"'{name}' is given {count} times. A model has one modality of a name. Remove the others.")
        for name, count in counts.items()
        if count > 1
    ]
    problems.raise_found()
    return plugins


def register(spec: ModalitySpec, *, replace: bool = False) -> None:
    """Make a spec known in this process, for notebooks and before packaging.

    Running a notebook cell again is fine: a spec with the same name and factory replaces the earlier one.

    Args:
        spec: the declaration.
        replace: take the name although an installed package or another registered spec has it.

    Raises:
        DuplicateModalityError: when the name is taken and `replace` is False; nothing was changed.
    """
    earlier = lookup.registered.get(spec.name)
    owners = [entry.provider for entry in lookup.entry_points() if entry.name == spec.name]
    owners += [f"a registered spec ({earlier.factory})"] if earlier and earlier.factory != spec.factory else []
    if owners and not replace:
        raise DuplicateModalityError(
            f"'{spec.name}' is already provided by {', '.join(owners)}. A name has one provider; nothing was changed. "
            "Give the spec another name, or pass replace=True"
        )
    lookup.registered[spec.name] = spec


def refresh() -> None:
    """Look at the installed packages again, after a `pip install` in a running notebook."""
    lookup.forget()


def distribution_of(entry: InstalledEntryPoint) -> Distribution:
    """Return what the metadata of an entry point's package say."""
    own = [found for found in distributions() if same_distribution(found.name, entry.distribution)]
    return next(found for found in own if found.location == entry.location)


def _split(item: object) -> tuple[str | ModalitySpec, dict[str, Any]]:
    if isinstance(item, str | ModalitySpec):
        return item, {}
    if isinstance(item, Mapping) and isinstance(item.get("name"), str | ModalitySpec):
        return item["name"], {key: value for key, value in item.items() if key != "name"}
    raise OptionsError(
        f"{item!r} does not name a modality. Accepted: 'name', 'distribution:name', {{'name': ..., option: value}} or "
        "a ModalitySpec. Write for example: modalities=[{'name': 'radar', 'frames': 4}]"
    )


def _provider(name: str | ModalitySpec) -> ResolvedPlugin:
    """Return the one provider of a name, its options not read yet."""
    found = name if isinstance(name, ModalitySpec) else lookup.find(name, Policy.from_environment())
    entry = _entry_of(found) if isinstance(found, ModalitySpec) else found
    if entry is None:
        assert isinstance(found, ModalitySpec)
        check_api_version(found, provider="given in this process", distribution=found.factory.partition(".")[0])
        return ResolvedPlugin(found, "", "", found.factory, ModalityOptions())
    return ResolvedPlugin(
        lookup.loaded(entry).spec, entry.distribution, entry.version, entry.reference, ModalityOptions()
    )


def _with_options(plugin: ResolvedPlugin, options: Mapping[str, Any], mmqa: Mapping[str, Any]) -> ResolvedPlugin:
    """Return a provider with its options, adapter sizes and prefix read, or one error for all of them."""
    spec, own, given = plugin.spec, dict(options), Problems()
    sizes, prefix = own.pop("mmqa", None) or {}, own.pop("prefix", None)
    with given.collecting():
        plugin = dataclasses.replace(plugin, options=spec.parse_options(own), prefix=prefix)
    with given.collecting():
        if not isinstance(sizes, Mapping):
            raise OptionsError(
                f"{spec.name}.mmqa: {sizes!r} is no mapping. Accepted: adapter sizes by name. Write for example: "
                "{'mmqa': {'lora_rank': 32}}"
            )
        merged = {**spec.mmqa.model_dump(), **mmqa, **sizes}
        plugin = dataclasses.replace(plugin, mmqa=parse_settings(MMQASpec, merged, title=f"{spec.name}.mmqa"))
    if given.found:
        raise OptionsError("\n".join(map(str, given.found))) from None
    return plugin


def _entry_of(spec: ModalitySpec) -> InstalledEntryPoint | None:
    """Return the installed entry point a spec object came from, so that its provenance is recorded."""
    for entry in lookup.entry_points():
        if entry.name == spec.name and entry.reference.partition(".")[0] == spec.factory.partition(".")[0]:
            try:
                if lookup.loaded(entry).spec == spec:
                    return entry
            except PluginError:
                return None
    return None


def _record(entry: InstalledEntryPoint, policy: Policy, providers: int) -> PluginRecord:
    summary = ""
    notes: tuple[str, ...] = ()
    status: Status = "disabled"
    error = policy.refusal(entry) or ""
    if not error:
        try:
            outcome = lookup.loaded(entry)
        except PluginError as problem:
            status = "incompatible" if isinstance(problem, IncompatiblePluginError) else "broken"
            error = str(problem)
        else:
            summary, notes = outcome.spec.summary, outcome.notes
            status = "ok" if providers == 1 else "duplicate"
            if status == "duplicate":
                error = f"{providers} packages provide it. Write '{entry.distribution}:{entry.name}'"
    return PluginRecord(
        entry.name, entry.distribution, entry.version, entry.reference, status, error, summary, entry.editable, notes
    )
