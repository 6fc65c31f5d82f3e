"""From an entry point to the object it names, checked against its kind.

Loading runs the module an entry point names and nothing else. Whatever goes wrong becomes one error that names the
package, the entry point and the command to run next; the cause is chained.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from crema_core.errors import ContractError, IncompatiblePluginError, PluginError, PluginLoadError, PluginVersionWarning
from crema_core.plugins._metadata import InstalledEntryPoint
from crema_core.plugins.groups import Kind
from crema_core.plugins.policy import CORE_DISTRIBUTION
from crema_core.plugins.spec import API_VERSION, MMQASpec, ModalityOptions, ModalitySpec

HEAVY_MODULES = ("torch", "transformers", "peft", "numpy")
"""Modules the module of a light entry point may not import: listing and help would pay seconds for them."""


@dataclass(frozen=True)
class Loaded:
    """What an entry point names, with what was noticed while loading it."""

    thing: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedPlugin:
    """The one provider of a modality a user's words mean.

    Attributes:
        spec: the declaration.
        distribution: the distribution that provides it; empty for a spec given or registered by hand.
        version: the distribution's version; empty for a spec given or registered by hand.
        reference: the entry point's text, or the factory of a spec given by hand.
        options: validated options, the defaults where the user gave none.
        mmqa: adapter sizes, the declared ones where the user gave none; None: the declared ones.
        prefix: text before the tokens the user chose; None: the declared one.
    """

    spec: ModalitySpec
    distribution: str
    version: str
    reference: str
    options: ModalityOptions
    mmqa: MMQASpec | None = None
    prefix: str | None = None

    @property
    def provider(self) -> str:
        """`distribution version`, for messages."""
        return f"{self.distribution} {self.version}" if self.distribution else "given in this process"


def load_entry(kind: Kind, entry: InstalledEntryPoint) -> Loaded:
    """Import an entry point and check that it names what its kind needs.

    Raises:
        PluginLoadError: when the import fails.
        ContractError: when the object is of another type, or has another name than the entry point.
        IncompatiblePluginError: when a modality was written for another major version of the contract.
    """
    before = set(sys.modules)
    try:
        thing = entry.load()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ContractError(
            f"'{entry.name}' ({entry.provider}): {entry.reference} declares what a spec does not allow: {faults}. "
            f"Correct the {error.title}"
        ) from error
    # A module of somebody else may also end the program while it is imported.
    except (Exception, SystemExit) as error:
        raise PluginLoadError(
            f"'{entry.name}' ({entry.provider}) could not be imported from {entry.reference}: "
            f"{type(error).__name__}: {error}. {repair_hint(entry)}"
        ) from error
    check_thing(kind, thing, entry.name, provider=entry.provider, reference=entry.reference)
    if isinstance(thing, ModalitySpec):
        check_api_version(thing, provider=entry.provider, distribution=entry.distribution)
    return Loaded(thing, _notes(kind, entry, before))


def check_thing(kind: Kind, thing: object, name: str, *, provider: str, reference: str) -> None:
    """Check an object against its kind.

    Args:
        kind: what it should be.
        thing: the object.
        name: under which it is provided.
        provider: `distribution version`, or how else it came, for messages.
        reference: `package.module:attribute`, or how else it is written.

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
    """Refuse another major version of the contract; warn once for a newer minor one.

    Raises:
        IncompatiblePluginError: when the major versions differ.
    """
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
    """Return the commands that repair or remove a broken package."""
    return (
        f"Repair it: pip install --force-reinstall {entry.distribution}, "
        f"or remove it: pip uninstall {entry.distribution}"
    )


def raise_again(error: PluginError) -> None:
    """Raise a kept error once more, as a fresh object with the same cause (tracebacks would pile up otherwise)."""
    raise type(error)(str(error)) from error.__cause__


def _notes(kind: Kind, entry: InstalledEntryPoint, before: set[str]) -> tuple[str, ...]:
    heavy = [name for name in HEAVY_MODULES if kind.light and name in sys.modules and name not in before]
    notes = []
    if heavy:
        module = entry.reference.partition(":")[0]
        notes.append(f"{module} imports {', '.join(heavy)}, which slows every listing; import it in the class's file")
    return (*notes, *shadow_notes(entry))


def shadow_notes(entry: InstalledEntryPoint) -> tuple[str, ...]:
    """Return a note for each other place where metadata of the same distribution lie."""
    return tuple(f"other metadata of {entry.distribution} lies in {place}; delete it" for place in entry.shadowed)
