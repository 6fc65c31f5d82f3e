"""From an entry point to a checked `ModalitySpec`.

Loading runs the plugin's light module and nothing else. Whatever goes wrong becomes one error that names the package,
the entry point and the command to run next; the cause is chained.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

from pydantic import ValidationError

from crema_core.errors import ContractError, IncompatiblePluginError, PluginError, PluginLoadError, PluginVersionWarning
from crema_core.plugins._metadata import InstalledEntryPoint
from crema_core.plugins.policy import CORE_DISTRIBUTION
from crema_core.plugins.spec import API_VERSION, ModalitySpec
from crema_core.plugins.versions import adapter_for, numbers

HEAVY_MODULES = ("torch", "transformers", "peft", "numpy")
"""Modules a light module may not import: listing and help would pay seconds for them."""


@dataclass(frozen=True)
class LoadedSpec:
    """A spec with what was noticed while loading it."""

    spec: ModalitySpec
    notes: tuple[str, ...] = ()


def load_spec(entry: InstalledEntryPoint) -> LoadedSpec:
    """Import an entry point and check what it names.

    Raises:
        PluginLoadError: when the import fails.
        ContractError: when the object is not a valid `ModalitySpec` or has another name than the entry point.
        IncompatiblePluginError: when it was written for another major version of the contract.
    """
    before = set(sys.modules)
    try:
        spec = entry.load()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ContractError(
            f"'{entry.name}' ({entry.provider}): {entry.reference} declares what a spec does not allow: {faults}. "
            "Correct the ModalitySpec"
        ) from error
    except Exception as error:
        raise PluginLoadError(
            f"'{entry.name}' ({entry.provider}) could not be imported from {entry.reference}: "
            f"{type(error).__name__}: {error}. {repair_hint(entry)}"
        ) from error
    _check_is_spec(entry, spec)
    check_api_version(spec, provider=entry.provider, distribution=entry.distribution)
    return LoadedSpec(spec, _notes(entry, before))


def check_api_version(spec: ModalitySpec, *, provider: str, distribution: str) -> None:
    """Refuse another major version of the contract; warn once for a newer minor one and for one that is adapted.

    Raises:
        IncompatiblePluginError: when the major versions differ and core has no adapter.
    """
    theirs, ours = numbers(spec.api_version), numbers(API_VERSION)
    subject = f"'{spec.name}' ({provider}) was written for plugin API {spec.api_version}, this {CORE_DISTRIBUTION}"
    upgrade_core = f"pip install -U {CORE_DISTRIBUTION}"
    if adapter_for(spec.api_version):
        warnings.warn(
            f"{subject} speaks {API_VERSION} and adapts it. A later one will not. "
            f"Upgrade: pip install -U {distribution}",
            PluginVersionWarning,
            stacklevel=4,
        )
    elif theirs[0] != ours[0]:
        upgrade = upgrade_core if theirs > ours else f"pip install -U {distribution}"
        raise IncompatiblePluginError(
            f"{subject} speaks {API_VERSION}; the major versions must be equal. Upgrade the older side: {upgrade}"
        )
    elif theirs > ours:
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


def _check_is_spec(entry: InstalledEntryPoint, spec: object) -> None:
    if not isinstance(spec, ModalitySpec):
        raise ContractError(
            f"'{entry.name}' ({entry.provider}): {entry.reference} is of type {type(spec).__name__}. "
            "The entry point must name a ModalitySpec object. "
            f'Write: {entry.name} = "{entry.reference.partition(":")[0]}:SPEC"'
        )
    if spec.name != entry.name:
        raise ContractError(
            f"'{entry.name}' ({entry.provider}): the entry point is called '{entry.name}', its spec '{spec.name}'. "
            f'The two names must be equal. Write: {spec.name} = "{entry.reference}"'
        )


def _notes(entry: InstalledEntryPoint, before: set[str]) -> tuple[str, ...]:
    heavy = [name for name in HEAVY_MODULES if name in sys.modules and name not in before]
    notes = []
    if heavy:
        module = entry.reference.partition(":")[0]
        notes.append(f"{module} imports {', '.join(heavy)}, which slows every listing; import it in the class's file")
    notes.extend(f"other metadata of {entry.distribution} lies in {place}; delete it" for place in entry.shadowed)
    return tuple(notes)
