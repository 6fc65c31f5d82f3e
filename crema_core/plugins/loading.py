"""From an entry point to the object it names: may it be used, does it load, is it what its kind needs.

Which installed plugins may be used is said by environment variables, read here and nowhere else:

- `CREMA_PLUGINS`: allowlist of distributions or names, separated by commas; set and empty means none.
- `CREMA_PLUGINS_DISABLE`: the opposite list; it wins over the first.
- `CREMA_PLUGINS_STRICT=1`: a broken installed plugin is an error even when unused, for continuous integration.

What core itself provides is not an installed plugin to the allowlist; only `CREMA_PLUGINS_DISABLE` switches it off.

Loading runs the module an entry point names and nothing else, behind the fence (`crema_core.plugins.fence`). Whatever
goes wrong becomes one error that names the package, the entry point and the command to run next; the cause is chained.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from crema_core.errors import (
    ContractError,
    IncompatiblePluginError,
    MissingRequirementError,
    PluginError,
    PluginExitError,
    PluginLoadError,
    PluginVersionWarning,
    did_you_mean,
)
from crema_core.plugins._metadata import InstalledEntryPoint, same_distribution, unmet
from crema_core.plugins.fence import DISABLE, fault_text, fenced, switch_off
from crema_core.plugins.groups import Kind
from crema_core.plugins.spec import API_VERSION, MMQASpec, ModalityOptions, ModalitySpec
from crema_core.plugins.trial import LIMIT, Trial

ALLOW = "CREMA_PLUGINS"
STRICT = "CREMA_PLUGINS_STRICT"
CORE_DISTRIBUTION = "crema-core"
HEAVY_MODULES = ("torch", "transformers", "peft", "numpy")
"""Modules the module of a light entry point may not import: listing and help would pay seconds for them."""


@dataclass(frozen=True)
class Policy:
    """What may be used."""

    allow: tuple[str, ...] | None = None  # names or distributions, or None when everything installed is allowed
    disable: tuple[str, ...] = ()  # names or distributions that are off
    strict: bool = False  # broken installed plugins are errors

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Policy:
        """Read the three variables."""
        allow = environment.get(ALLOW)
        return cls(
            allow=None if allow is None else _words(allow),
            disable=_words(environment.get(DISABLE, "")),
            strict=environment.get(STRICT, "") not in ("", "0"),
        )

    def refusal(self, entry: InstalledEntryPoint) -> str | None:
        """Return why an entry point may not be used, ending with what to change, or None when it may."""
        subject = f"'{entry.name}' is installed ({entry.provider})"
        if any(_matches(word, entry) for word in self.disable):
            return f"{subject} but disabled by {DISABLE}={','.join(self.disable)}. Take it out of {DISABLE} to use it."
        if self.allow is None or same_distribution(entry.distribution, CORE_DISTRIBUTION):
            return None
        if any(_matches(word, entry) for word in self.allow):
            return None
        return f"{subject} but not listed in {ALLOW}='{','.join(self.allow)}'. Add '{entry.name}' to {ALLOW} to use it."

    def warn_about_strangers(self, entries: Iterable[InstalledEntryPoint]) -> None:
        """Warn for words of the variables that match no installed plugin: a typing error would be silent otherwise."""
        entries = tuple(entries)
        packages = sorted({entry.distribution for entry in entries})
        known = {word for entry in entries for word in (entry.name, entry.distribution)}
        for variable, words in ((ALLOW, self.allow or ()), (DISABLE, self.disable)):
            for word in words:
                if not any(_matches(word, entry) for entry in entries):
                    warnings.warn(
                        f"'{word}' in {variable} matches no installed plugin. "
                        f"Known: {', '.join(packages)}, and each name they provide.{did_you_mean(word, known)}",
                        stacklevel=3,
                    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _matches(word: str, entry: InstalledEntryPoint) -> bool:
    return word == entry.name or same_distribution(word, entry.distribution)


@dataclass(frozen=True)
class Loaded:
    """What an entry point names, with what was noticed while loading it."""

    thing: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedPlugin:
    """The one provider of a modality a user's words mean."""

    spec: ModalitySpec  # the declaration
    distribution: str  # the distribution that provides it; empty for a spec given or registered by hand
    version: str  # the distribution's version; empty for a spec given or registered by hand
    reference: str  # the entry point's text, or the factory of a spec given by hand
    options: ModalityOptions  # validated options, the defaults where the user gave none
    mmqa: MMQASpec | None = None  # adapter sizes, the declared ones where the user gave none; None: the declared ones
    prefix: str | None = None  # text before the tokens the user chose; None: the declared one

    @property
    def provider(self) -> str:
        """`distribution version`, for messages."""
        return f"{self.distribution} {self.version}" if self.distribution else "given in this process"


def load_entry(kind: Kind, entry: InstalledEntryPoint) -> Loaded:
    """Import an entry point and check that it names what its kind needs.

    Raises:
        PluginLoadError: when the import fails, or would have ended the program.
        ContractError: when the object is of another type, or has another name than the entry point.
        IncompatiblePluginError: when a modality was written for another major version of the contract.
    """
    before = set(sys.modules)
    try:
        with fenced(f"importing {entry.module}", provider=entry.provider):
            thing = entry.load()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ContractError(
            f"'{entry.name}' ({entry.provider}): {entry.reference} declares what a spec does not allow: {faults}. "
            f"Correct the {error.title}"
        ) from error
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises, its package is named
        cause = error.__cause__ if isinstance(error, PluginExitError) else error
        raise PluginLoadError(
            f"'{entry.name}' ({entry.provider}) could not be imported from {entry.reference}: "
            f"{fault_text(error)}. {repair_hint(entry)}"
        ) from cause
    check_thing(kind, thing, entry.name, provider=entry.provider, reference=entry.reference)
    if isinstance(thing, ModalitySpec):
        check_api_version(thing, provider=entry.provider, distribution=entry.distribution)
    return Loaded(thing, _notes(kind, entry, before))


def check_thing(kind: Kind, thing: object, name: str, *, provider: str, reference: str) -> None:
    """Check an object against its kind; name, provider and reference are those messages have.

    Raises:
        ContractError: when it is of another type or has another name.
    """
    wanted = kind.load_base()
    if not wanted:
        return
    subject, module = f"'{name}' ({provider}): {reference}", reference.partition(":")[0]
    if kind.names_class:
        if not (isinstance(thing, type) and issubclass(thing, wanted)):
            raise ContractError(
                f"{subject} is not a subclass of {kind.base_name}. The entry point must name one. "
                f"Write: class ...({kind.base.replace(':', '.')})"
            )
    elif not isinstance(thing, wanted):
        raise ContractError(
            f"{subject} is of type {type(thing).__name__}. The entry point must name a {kind.base_name} object. "
            f'Write: {name} = "{module}:SPEC"'
        )
    own = getattr(thing, "name", name) if kind.has_name else name
    if own != name:
        raise ContractError(
            f"'{name}' ({provider}): the entry point is called '{name}', its spec '{own}'. "
            f'The two names must be equal. Write: {own} = "{reference}"'
        )


def numbers(version: str) -> tuple[int, int]:
    """Return `(major, minor)` of a text such as "1.0"."""
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def check_api_version(spec: ModalitySpec, *, provider: str, distribution: str) -> None:
    """Refuse another major version of the contract (`IncompatiblePluginError`); warn once for a newer minor one."""
    theirs, ours = numbers(spec.api_version), numbers(API_VERSION)
    subject = f"'{spec.name}' ({provider}) was written for plugin API {spec.api_version}, this {CORE_DISTRIBUTION}"
    upgrade_core = f"pip install -U {CORE_DISTRIBUTION}"
    if theirs[0] != ours[0]:
        upgrade = upgrade_core if theirs > ours else f"pip install -U {distribution}"
        raise IncompatiblePluginError(
            f"{subject} speaks {API_VERSION}; the major versions must be equal. Upgrade the older side: {upgrade}"
        )
    if theirs > ours:
        warnings.warn(
            f"{subject} speaks {API_VERSION}. It may use what is not there yet. Upgrade: {upgrade_core}",
            PluginVersionWarning,
            stacklevel=4,
        )


def repair_hint(entry: InstalledEntryPoint) -> str:
    """Return what repairs, removes or switches off a broken package."""
    return (
        f"Repair it: pip install --force-reinstall {entry.distribution}, "
        f"remove it: pip uninstall {entry.distribution}, or switch it off: {switch_off(entry.distribution)}"
    )


def trial_text(entry: InstalledEntryPoint, trial: Trial) -> str:
    """Return what a person reads about an import that another process did not survive."""
    where = f"'{entry.name}' ({entry.provider}) cannot be imported from {entry.reference}"
    how = f"See it yourself: python -c 'import {entry.module}'."
    longer = f" If it only needs longer, set {LIMIT}=120." if trial.outcome == "hangs" else ""
    return f"{where}: {trial.fault}. {how}{longer} {repair_hint(entry)}"


def raise_again(error: PluginError) -> None:
    """Raise a kept error once more, as a fresh object with the same cause (tracebacks would pile up otherwise)."""
    raise type(error)(str(error)) from error.__cause__


def _notes(kind: Kind, entry: InstalledEntryPoint, before: set[str]) -> tuple[str, ...]:
    heavy = [name for name in HEAVY_MODULES if kind.light and name in sys.modules and name not in before]
    notes = []
    if heavy:
        notes.append(
            f"{entry.module} imports {', '.join(heavy)}, which slows every listing; import it in the class's file"
        )
    return (*notes, *shadow_notes(entry))


def shadow_notes(entry: InstalledEntryPoint) -> tuple[str, ...]:
    """Return a note for each other place where metadata of the same distribution lie."""
    return tuple(f"other metadata of {entry.distribution} lies in {place}; delete it" for place in entry.shadowed)


def check_requirements(plugin: ResolvedPlugin) -> None:
    """Compare what the spec requires with the installed metadata; nothing is imported.

    Raises:
        MissingRequirementError: naming every requirement that is not met and the command that installs them.
    """
    problems = unmet_requirements(plugin.spec)
    if problems:
        needs = ", ".join(f"{text} ({found})" for text, found in problems.items())
        command = " ".join(f"'{text}'" for text in problems)
        raise MissingRequirementError(
            f"'{plugin.spec.name}' ({plugin.provider}) needs {needs}. Run: pip install {command}"
        )


def unmet_requirements(spec: ModalitySpec) -> dict[str, str]:
    """Return what a spec requires and this environment lacks: requirement -> what is there instead."""
    return {text: found for text in spec.requires if (found := unmet(text)) is not None}
