"""Named lookup with one answer in any entry-point group: what is installed under a name, and loading it.

Senses have a registry of their own with a contract to check; other things packages provide by name, such as data sets,
need only this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crema_core.errors import CremaError, DuplicateModalityError, PluginDisabledError, PluginLoadError, did_you_mean
from crema_core.plugins import _metadata
from crema_core.plugins._metadata import InstalledEntryPoint, same_distribution
from crema_core.plugins.loading import repair_hint
from crema_core.plugins.policy import Policy


@dataclass(frozen=True)
class Group:
    """An entry-point group and how messages speak of it.

    Attributes:
        name: for example `crema.datasets`.
        what: one thing of it with its article: "a data set".
        see: the command that lists them.
        error: raised for an unknown name.
    """

    name: str
    what: str
    see: str
    error: type[CremaError]


@dataclass(frozen=True)
class Provider:
    """One package's entry under a name.

    Attributes:
        name: of the entry.
        distribution, version: of the package.
        reference: `module:attribute`.
        refusal: why it may not be used, or None.
        load: imports and returns the object.
    """

    name: str
    distribution: str
    version: str
    reference: str
    refusal: str | None
    load: Callable[[], Any]


def providers(group: Group) -> tuple[Provider, ...]:
    """Return all entries of a group, sorted by name and distribution; nothing is imported."""
    policy = Policy.from_environment()
    return tuple(_provider(entry, policy) for entry in _metadata.scan() if entry.group == group.name)


def find(group: Group, reference: str) -> Provider:
    """Return the one provider of `name` or `distribution:name`.

    Raises:
        group.error: when nothing provides the name.
        PluginDisabledError: when every provider is switched off.
        DuplicateModalityError: when several packages do and none was named.
    """
    distribution, _, name = reference.rpartition(":")
    named = [found for found in providers(group) if found.name == name]
    chosen = [found for found in named if not distribution or same_distribution(found.distribution, distribution)]
    if not chosen:
        known = sorted({found.name for found in providers(group)})
        near = did_you_mean(name, known) or f" See them: {group.see}"
        raise group.error(f"'{reference}' is not {group.what}. Installed: {', '.join(known) or 'none'}.{near}")
    usable = [found for found in chosen if found.refusal is None]
    if not usable:
        raise PluginDisabledError(" ".join(str(found.refusal) for found in chosen))
    if len(usable) > 1:
        listed = ", ".join(f"{found.distribution} {found.version}" for found in usable)
        raise DuplicateModalityError(
            f"{len(usable)} installed packages provide '{name}': {listed}. Name the one you mean, for example "
            f"'{usable[0].distribution}:{name}'"
        )
    return usable[0]


def _provider(entry: InstalledEntryPoint, policy: Policy) -> Provider:
    def load() -> Any:
        try:
            return entry.load()
        except Exception as error:
            raise PluginLoadError(
                f"'{entry.name}' ({entry.provider}) could not be imported from {entry.reference}: "
                f"{type(error).__name__}: {error}. {repair_hint(entry)}"
            ) from error

    return Provider(entry.name, entry.distribution, entry.version, entry.reference, policy.refusal(entry), load)
