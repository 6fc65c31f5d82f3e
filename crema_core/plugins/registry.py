"""The registry: what packages add, of every kind; list it, find what a name means, load it.

One scan of installed metadata serves all kinds. Nothing here imports torch by itself: listing imports the light modules
of modalities and nothing of the other kinds, and loading imports the one thing asked for. Nothing is kept that
installed metadata does not say, except what is registered by hand, so worker processes and ranks find the same plugins.
A package that cannot be imported, exits, prints or raises while it is imported is named and stops no other one
(`crema_core.plugins.fence`). One that ends the process itself cannot be held; `crema plugins doctor` finds it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from crema_core.errors import (
    IncompatiblePluginError,
    OptionsError,
    PluginDisabledError,
    PluginError,
    PluginExitError,
    PluginLoadError,
    Problems,
    did_you_mean,
)
from crema_core.plugins import _metadata, groups
from crema_core.plugins._metadata import Distribution as Distribution
from crema_core.plugins._metadata import InstalledEntryPoint, distributions, same_distribution
from crema_core.plugins.fence import fenced, switch_off
from crema_core.plugins.groups import KINDS, Kind, KindName, kind_of
from crema_core.plugins.loading import (
    Loaded,
    Policy,
    ResolvedPlugin,
    check_api_version,
    check_requirements,
    check_thing,
    load_entry,
    raise_again,
    repair_hint,
    shadow_notes,
)
from crema_core.plugins.spec import MMQASpec, ModalityOptions, ModalitySpec, parse_settings

ModalityReference = str | Mapping[str, Any] | ModalitySpec
"""What names a modality: `"name"`, `"distribution:name"`, `{"name": ..., **options}` or a spec."""

Status = Literal["ok", "broken", "incompatible", "duplicate", "disabled"]
"""broken: it cannot be imported or breaks the contract; incompatible: it was written for another major version of the
contract; duplicate: it is fine, but several packages provide the name."""

BY_HAND = "given in this process"

_registered: dict[tuple[KindName, str], object] = {}
"""What was registered by hand, by kind and name."""

_outcomes: dict[InstalledEntryPoint, Loaded | PluginError] = {}
"""What loading an entry point led to, good or bad, until `refresh`."""


@dataclass(frozen=True)
class PluginRecord:
    """One installed provider of one name, as listings show it."""

    name: str  # of the entry point
    distribution: str  # the package that provides it; empty for `registry.register`, as the version
    version: str
    reference: str  # the entry point's text, or the factory of a registered spec
    # Other kinds than modalities are listed without importing them, so that `broken` shows only when one is used or by
    # `crema plugins doctor`.
    status: Status
    error: str = ""  # what is wrong and what to type, empty when nothing is
    summary: str = ""  # the spec's sentence, empty when there is none or the spec could not be loaded
    editable: bool = False  # installed with `pip install -e`
    notes: tuple[str, ...] = ()  # things that do not stop the plugin, for example slow imports or stale metadata
    kind: KindName = "modality"  # what it is


@dataclass(frozen=True)
class Provider:
    """One package's entry under a name, or what was registered under it by hand; not loaded yet."""

    kind: Kind
    name: str  # of the entry
    distribution: str  # the package; empty for what was registered by hand, as the version
    version: str
    reference: str  # `module:attribute`
    refusal: str | None = None  # why it may not be used, or None
    entry: InstalledEntryPoint | None = None  # None for what was registered by hand

    @property
    def provider(self) -> str:
        """`distribution version`, for messages."""
        return f"{self.distribution} {self.version}" if self.distribution else BY_HAND

    def provenance(self) -> dict[str, str]:
        """Return name, distribution and version as JSON data, for what is saved with results and models."""
        return {"name": self.name, "distribution": self.distribution, "version": self.version}

    def load(self) -> Any:
        """Import and return what the entry names; the outcome is kept until `refresh`.

        Raises:
            PluginError: as `registry.load`.
        """
        return self._loaded().thing

    def _loaded(self) -> Loaded:
        entry = self.entry
        if entry is None:
            return Loaded(_registered[self.kind.name, self.name])
        if entry not in _outcomes:
            try:
                _outcomes[entry] = load_entry(self.kind, entry)
            except PluginError as error:
                _outcomes[entry] = error
        outcome = _outcomes[entry]
        if isinstance(outcome, PluginError):
            raise_again(outcome)
        assert isinstance(outcome, Loaded)
        return outcome


def providers(kind: KindName) -> tuple[Provider, ...]:
    """Return all entries of a kind, sorted by name and distribution, those registered by hand last; imports nothing."""
    own, policy = kind_of(kind), Policy.from_environment()
    installed = [
        Provider(own, entry.name, entry.distribution, entry.version, entry.reference, policy.refusal(entry), entry)
        for entry in _metadata.scan()
        if entry.group == own.group
    ]
    by_hand = [
        Provider(own, name, "", "", _written(thing)) for (of, name), thing in _registered.items() if of == own.name
    ]
    return (*installed, *by_hand)


def installed_names(kind: KindName = "modality") -> tuple[str, ...]:
    """Return the names of everything installed or registered of a kind, sorted; nothing is imported."""
    return tuple(sorted({found.name for found in providers(kind)}))


def known_packages(kind: KindName) -> dict[str, str]:
    """Return name -> distribution for the packages known when this version was made, installed or not."""
    return dict(groups.directory().get(kind_of(kind).name, {}))


def known_names(kind: KindName) -> tuple[str, ...]:
    """Return the installed names and those of packages that could be installed, sorted; nothing is imported."""
    return tuple(sorted({*installed_names(kind), *known_packages(kind)}))


def usable_names(kind: KindName) -> tuple[str, ...]:
    """Return the names of a kind that the environment's variables do not switch off, sorted; nothing is imported."""
    return tuple(sorted({found.name for found in providers(kind) if found.refusal is None}))


def find(kind: KindName, reference: str) -> Provider:
    """Return the one provider of `name` or `distribution:name`; nothing is imported.

    Raises:
        CremaError: the kind's own error when nothing provides the name; it names what is near or what to install.
        PluginDisabledError: when every provider is switched off.
        DuplicatePluginError: when several packages provide it and no distribution was named.
    """
    own = kind_of(kind)
    distribution, _, name = reference.rpartition(":")
    named = [found for found in providers(own.name) if found.name == name]
    if by_hand := [found for found in named if found.entry is None]:
        if not distribution:
            return by_hand[0]
        named.remove(by_hand[0])
    chosen = [found for found in named if not distribution or same_distribution(found.distribution, distribution)]
    if not chosen:
        raise own.error(_unknown_provider(reference, named) if named else _unknown_name(own, name))
    usable = [found for found in chosen if found.refusal is None]
    if not usable:
        raise PluginDisabledError(" ".join(str(found.refusal) for found in chosen))
    if len(usable) > 1:
        raise own.duplicate(
            f"{len(usable)} installed packages provide '{name}': {', '.join(found.provider for found in usable)}. "
            + ("Name the one you mean, for example " if own.chosen_by_prefix else "")
            + _choice(usable[0])
        )
    return usable[0]


def load(kind: KindName, reference: str) -> Any:
    """Import and return what a name means.

    Args:
        kind: "modality", "fusion", "backbone", "encoder", "dataset", "metric" or "preset".
        reference: `name` or `distribution:name`.

    Returns:
        a `ModalitySpec`, a class of fusion and so on; `crema_core.plugins.groups` states what for each kind.

    Raises:
        CremaError: as `find`.
        PluginLoadError: its module cannot be imported.
        ContractError: the entry point names something else than its kind needs.

    Example:
        >>> load("dataset", "crema-core:nextqa").splits
        ('train', 'val', 'test')
    """
    return find(kind, reference).load()


@contextmanager
def in_use(kind: KindName, reference: str, doing: str) -> Iterator[None]:
    """Run code of what a name means inside the block, behind the fence around code of packages.

    Args:
        kind: as for `load`.
        reference: `name` or `distribution:name`.
        doing: what is done, for messages: "building the fusion".

    Raises:
        CremaError: as `find`.
        PluginLoadError: when its code would have ended the program; any `Exception` passes through unchanged.
    """
    found = find(kind, reference)
    if found.entry is None:  # the caller's own
        yield
        return
    try:
        with fenced(doing, provider=found.provider):
            yield
    except PluginExitError as error:
        raise PluginLoadError(
            f"The {found.kind.noun} '{found.name}' ({found.provider}) failed while {doing}: {error}. "
            f"{repair_hint(found.entry)}"
        ) from error.__cause__


def list_plugins(kind: KindName | None = None) -> tuple[PluginRecord, ...]:
    """Return one record per provider of every name, sorted by kind, name and distribution; imports light modules only.

    Args:
        kind: only this kind; None: all of them.

    Raises:
        PluginLoadError: only with `CREMA_PLUGINS_STRICT=1`, when an installed modality is broken or incompatible.
    """
    policy = Policy.from_environment()
    policy.warn_about_strangers(_metadata.scan())
    records = [record for own in ([kind_of(kind)] if kind else KINDS.values()) for record in _records(own)]
    broken = [record.error for record in records if record.status in ("broken", "incompatible")]
    if policy.strict and broken:
        raise PluginLoadError(
            f"{len(broken)} installed plugin(s) cannot be used, which CREMA_PLUGINS_STRICT=1 makes an error:\n"
            + "\n".join(f"- {error}" for error in broken)
        )
    return tuple(records)


def list_modalities() -> tuple[PluginRecord, ...]:
    """Return one record per provider of every modality, sorted by name; imports light modules only.

    Raises:
        PluginLoadError: only with `CREMA_PLUGINS_STRICT=1`, when an installed plugin is broken or incompatible.
    """
    return list_plugins("modality")


def describe(name: str) -> dict[str, Any]:
    """Return a modality's declaration, provenance and status as JSON data; imports no torch.

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
        UnknownModalityError: nothing provides the name; the message states what is near or what to install.
        DuplicateModalityError: several packages do.
        PluginDisabledError: an environment variable switches it off.
        PluginLoadError: its module cannot be imported.
        IncompatiblePluginError: it was written for another major version of the contract.
        ContractError: its entry point does not name a spec of the same name.
        OptionsError: an option has a wrong name or value.
    """
    name, options = _split(item)
    return _with_options(_plugin(name), options, mmqa or {})


def resolve_all(
    items: Iterable[ModalityReference],
    *,
    mmqa: Mapping[str, Any] | None = None,
    extended: Callable[[ModalitySpec], ModalitySpec] | None = None,
) -> list[ResolvedPlugin]:
    """Resolve every item and check its requirements, in the order given, before anything heavy is imported.

    `build` and everything else that takes a list of modalities resolves it here.

    Args:
        items: each as for `resolve`.
        mmqa: adapter sizes of all items.
        extended: gives the declaration under which a modality is built, for a fusion that gives one more options.

    Raises:
        BuildError: with every problem of every item, not only the first.
        PluginLoadError: with `CREMA_PLUGINS_STRICT=1`, when any installed plugin is broken.
    """
    if isinstance(items, str | Mapping | ModalitySpec):
        raise OptionsError(f"modalities is one item, {items!r}. Accepted is a list of items. Write: modalities=[...]")
    policy = Policy.from_environment()
    policy.warn_about_strangers(_metadata.scan())
    if policy.strict:
        list_modalities()
    plugins: list[ResolvedPlugin] = []
    counts: Counter[str] = Counter()
    problems = Problems()
    for item in items:
        with problems.collecting():
            name, options = _split(item)
            plugin = _plugin(name)
            if extended is not None:
                plugin = dataclasses.replace(plugin, spec=extended(plugin.spec))
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


def register(thing: object, *, kind: KindName = "modality", name: str | None = None, replace: bool = False) -> None:
    """Make something known in this process, for notebooks and before packaging.

    Running a notebook cell again is fine: a spec with the same name and factory, a class of the same module and name,
    and an equal object replace the earlier one.

    Args:
        thing: a `ModalitySpec`, or what an entry point of another kind names, for example a class of fusion.
        kind: what it is.
        name: under which it is found; None: that of the object, where its kind has names.
        replace: take the name although an installed package or something else registered has it.

    Raises:
        ContractError: when it is not what its kind needs; nothing was changed.
        DuplicatePluginError: when the name is taken and `replace` is False; nothing was changed.
        OptionsError: when it has no name of its own and none was given.
    """
    own = kind_of(kind)
    name = name or (getattr(thing, "name", None) if own.has_name else None)
    if not name:
        raise OptionsError(
            f"A {own.noun} is registered without a name. It is found by one. Write: "
            f"registry.register(..., kind='{own.name}', name='...')"
        )
    check_thing(own, thing, name, provider=BY_HAND, reference=_written(thing))
    earlier = _registered.get((own.name, name))
    owners = [found.provider for found in providers(own.name) if found.name == name and found.entry is not None]
    if earlier is not None and _identity(earlier) != _identity(thing):
        owners.append(f"a registered {'spec' if own.has_name else own.noun} ({_written(earlier)})")
    if owners and not replace:
        raise own.duplicate(
            f"'{name}' is already provided by {', '.join(owners)}. A name has one provider; nothing was changed. "
            f"Give the {'spec' if own.has_name else own.noun} another name, or pass replace=True"
        )
    _registered[own.name, name] = thing


@contextmanager
def temporary_registrations() -> Iterator[None]:
    """Forget at the end of the block what was registered inside it, for tests."""
    before = dict(_registered)
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(before)


def refresh() -> None:
    """Look at the installed packages again, after a `pip install` in a running notebook."""
    _metadata.forget()
    _outcomes.clear()


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


def _plugin(name: str | ModalitySpec) -> ResolvedPlugin:
    """Return the one provider of a name, its options not read yet."""
    found = _provider_of(name) if isinstance(name, ModalitySpec) else find("modality", name)
    spec = name if isinstance(name, ModalitySpec) else found.load()
    if found.entry is None:
        check_api_version(spec, provider=BY_HAND, distribution=spec.factory.partition(".")[0])
    return ResolvedPlugin(spec, found.distribution, found.version, found.reference, ModalityOptions())


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


def _provider_of(spec: ModalitySpec) -> Provider:
    """Return the installed entry point a spec object came from, so that its provenance is recorded, else the spec."""
    for found in providers("modality"):
        if found.entry is None or found.name != spec.name:
            continue
        if found.reference.partition(".")[0] == spec.factory.partition(".")[0]:
            try:
                if found.load() == spec:
                    return found
            except PluginError:
                break
    return Provider(KINDS["modality"], spec.name, "", "", spec.factory)


def _records(kind: Kind) -> list[PluginRecord]:
    found = providers(kind.name)
    usable = Counter(own.name for own in found if own.refusal is None and own.entry is not None)
    records = [_record(own, 1 if kind.broadcast or own.entry is None else usable[own.name]) for own in found]
    return sorted(records, key=lambda record: (record.name, record.distribution))


def _record(found: Provider, num_providers: int) -> PluginRecord:
    summary = ""
    notes = shadow_notes(found.entry) if found.entry else ()
    status: Status = "disabled" if found.refusal else "ok"
    error = found.refusal or ""
    if found.kind.name == "modality" and status == "ok":
        try:
            loaded = found._loaded()
        except PluginError as problem:
            status = "incompatible" if isinstance(problem, IncompatiblePluginError) else "broken"
            error, notes = str(problem), ()
        else:
            summary, notes = loaded.thing.summary, loaded.notes
    if status == "ok" and num_providers > 1:
        write = "Write " if found.kind.chosen_by_prefix else ""
        status, error = "duplicate", f"{num_providers} packages provide it. {write}{_choice(found)}"
    return PluginRecord(
        found.name,
        found.distribution,
        found.version,
        found.reference,
        status,
        error,
        summary,
        found.entry is not None and found.entry.editable,
        notes,
        found.kind.name,
    )


def _unknown_name(kind: Kind, name: str) -> str:
    installed, packages = installed_names(kind.name), known_packages(kind.name)
    text = f"'{name}' is not an installed {kind.noun}. Installed: {', '.join(installed) or 'none'}."
    if name in packages:
        return f"{text} It is provided by {packages[name]}. Run: pip install {packages[name]}"
    return text + (
        did_you_mean(name, known_names(kind.name))
        or f" See what is there: {kind.see or f'crema plugins list --kind {kind.name}'}"
    )


def _unknown_provider(reference: str, named: list[Provider]) -> str:
    distribution, _, name = reference.rpartition(":")
    return (
        f"'{distribution}' does not provide '{name}'. Provided by: {', '.join(found.provider for found in named)}. "
        f"Write: '{named[0].distribution}:{name}' or just '{name}'"
    )


def _choice(found: Provider) -> str:
    """Return what a person types to choose among providers of one name, with this one as the example."""
    if found.kind.chosen_by_prefix:
        return f"'{found.distribution}:{found.name}'"
    return f"Switch one off, for example {switch_off(found.distribution)}"


def _written(thing: object) -> str:
    """Return how a thing given by hand is named in messages: its class's import path where it has one."""
    if isinstance(thing, ModalitySpec):
        return thing.factory
    own = thing if isinstance(thing, type) or (callable(thing) and hasattr(thing, "__qualname__")) else type(thing)
    return f"{own.__module__}:{own.__qualname__}"


def _identity(thing: object) -> object:
    """Return what two objects of one name have in common where the second is the first, defined again."""
    return _written(thing) if isinstance(thing, ModalitySpec | type) or hasattr(thing, "__qualname__") else thing
