"""What a name means: the providers of it, whether they may be used, and the errors when there is not exactly one.

Providers are the installed entry points and the specs registered by hand in this process. Loading happens here and
only for the provider that is asked for; its outcome, good or bad, is kept until `refresh`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from crema_core.errors import (
    DuplicateModalityError,
    PluginDisabledError,
    PluginError,
    UnknownModalityError,
    did_you_mean,
)
from crema_core.plugins import _metadata
from crema_core.plugins._metadata import InstalledEntryPoint, same_distribution
from crema_core.plugins.loading import LoadedSpec, load_spec, raise_again
from crema_core.plugins.policy import Policy
from crema_core.plugins.spec import ModalitySpec

GROUP = "crema.modalities"
GROUPS = (GROUP, "crema.hooks", "crema.encoders", "crema.datasets")
"""Every group of entry points that something reads."""

registered: dict[str, ModalitySpec] = {}
"""Specs registered by hand, by name."""

_outcomes: dict[InstalledEntryPoint, LoadedSpec | PluginError] = {}


def entry_points() -> tuple[InstalledEntryPoint, ...]:
    """Return the installed modality entry points, sorted by name and distribution; nothing is imported."""
    return tuple(entry for entry in _metadata.scan() if entry.group == GROUP)


def offered(group: str) -> tuple[InstalledEntryPoint, ...]:
    """Return the installed entry points of another group that the environment allows; nothing is imported."""
    policy = Policy.from_environment()
    return tuple(entry for entry in _metadata.scan() if entry.group == group and policy.refusal(entry) is None)


def installed_names() -> tuple[str, ...]:
    """Return the names of all installed and registered modalities, sorted; nothing is imported."""
    return tuple(sorted({entry.name for entry in entry_points()} | set(registered)))


def forget() -> None:
    """Drop the scan and every kept outcome."""
    _metadata.forget()
    _outcomes.clear()


def loaded(entry: InstalledEntryPoint) -> LoadedSpec:
    """Return the spec of one entry point, importing it on the first call.

    Raises:
        PluginError: what went wrong, the same on every call.
    """
    if entry not in _outcomes:
        try:
            _outcomes[entry] = load_spec(entry)
        except PluginError as error:
            _outcomes[entry] = error
    outcome = _outcomes[entry]
    if isinstance(outcome, PluginError):
        raise_again(outcome)
    assert isinstance(outcome, LoadedSpec)
    return outcome


def find(reference: str, policy: Policy) -> InstalledEntryPoint | ModalitySpec:
    """Return the one provider of `name` or `distribution:name`.

    Raises:
        UnknownModalityError: when nothing provides it.
        PluginDisabledError: when every provider is switched off.
        DuplicateModalityError: when several packages provide it and no distribution was named.
    """
    distribution, _, name = reference.rpartition(":")
    if not distribution and name in registered:
        return registered[name]
    providers = [entry for entry in entry_points() if entry.name == name]
    chosen = [entry for entry in providers if not distribution or same_distribution(entry.distribution, distribution)]
    if not chosen:
        raise UnknownModalityError(_unknown_provider(reference, providers) if providers else _unknown_name(name))
    usable = [entry for entry in chosen if policy.refusal(entry) is None]
    if not usable:
        raise PluginDisabledError(" ".join(text for entry in chosen if (text := policy.refusal(entry))))
    if len(usable) > 1:
        raise DuplicateModalityError(_several(name, usable))
    return usable[0]


def _unknown_name(name: str) -> str:
    installed = installed_names()
    text = f"'{name}' is not an installed modality. Installed: {', '.join(installed) or 'none'}."
    if name in _directory():
        return f"{text} It is provided by {_directory()[name]}. Run: pip install {_directory()[name]}"
    return text + (did_you_mean(name, {*installed, *_directory()}) or " See what is there: crema plugins list")


def _unknown_provider(reference: str, providers: Sequence[InstalledEntryPoint]) -> str:
    distribution, _, name = reference.rpartition(":")
    known = ", ".join(entry.provider for entry in providers)
    return (
        f"'{distribution}' does not provide '{name}'. Provided by: {known}. "
        f"Write: '{providers[0].distribution}:{name}' or just '{name}'"
    )


def _several(name: str, providers: Sequence[InstalledEntryPoint]) -> str:
    known = ", ".join(entry.provider for entry in providers)
    return (
        f"{len(providers)} installed packages provide '{name}': {known}. "
        f"Name the one you mean, for example '{providers[0].distribution}:{name}'"
    )


@functools.cache
def _directory() -> dict[str, str]:
    """Return modality name -> distribution for the packages known when this version was made."""
    names: dict[str, str] = json.loads(Path(__file__).with_name("directory.json").read_text(encoding="utf-8"))
    return names
