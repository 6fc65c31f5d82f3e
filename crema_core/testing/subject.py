"""The sense under test: its declaration, the package it came from, and what several checks share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from crema_core.errors import PluginError
from crema_core.plugins import registry
from crema_core.plugins.registry import Distribution, ResolvedPlugin
from crema_core.plugins.spec import ModalityOptions, ModalitySpec

Made = TypeVar("Made")


@dataclass(eq=False)
class Subject:
    """One sense.

    Attributes:
        name: how reports call it.
        provider: `distribution version`, or how the spec was given.
        declared: the spec, or why there is none.
        module: the light module its entry point names; empty for a spec given in the process.
        reference: the entry point's text.
        distribution: its package's metadata; None for a spec given in the process.
    """

    name: str
    provider: str
    declared: ModalitySpec | PluginError
    module: str = ""
    reference: str = ""
    distribution: Distribution | None = None
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def spec(self) -> ModalitySpec:
        """The declaration.

        Raises:
            PluginError: when it could not be loaded.
        """
        if isinstance(self.declared, PluginError):
            raise self.declared
        return self.declared

    @property
    def plugin(self) -> ResolvedPlugin:
        """What the registry would find, with default options where they exist."""
        package = self.distribution
        known = (package.name, package.version) if package else ("", "")
        return ResolvedPlugin(self.spec, *known, self.reference or self.spec.factory, self.cases[0])

    @property
    def cases(self) -> tuple[ModalityOptions, ...]:
        """The option sets the sense is tried with: those it declares for tests, else the defaults."""
        return self.spec.test_options or (self.spec.options(),)

    @property
    def packages(self) -> tuple[Path, ...]:
        """The folders of the light module's packages, outermost first; the module was imported before."""
        parts = self.module.split(".")
        names = [".".join(parts[: count + 1]) for count in range(len(parts))]
        modules = [sys.modules[name] for name in names if name in sys.modules]
        return tuple(Path(module.__file__).parent for module in modules if module.__file__ and _is_package(module))

    def share(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what `make` makes, made once for all checks of this sense."""
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made


def find_subject(item: str | ModalitySpec) -> Subject:
    """Find a sense by its name, `distribution:name`, or spec.

    Raises:
        UnknownModalityError: when nothing provides the name.
        DuplicateModalityError: when several packages do.
        PluginDisabledError: when an environment variable switches it off.
    """
    if isinstance(item, ModalitySpec):
        return Subject(item.name, "given in this process", item)
    found = registry.find("modality", item)
    if found.entry is None:
        return Subject(found.name, found.provider, found.load())
    declared: ModalitySpec | PluginError
    try:
        declared = found.load()
    except PluginError as error:
        declared = error
    return Subject(
        found.name,
        found.provider,
        declared,
        module=found.reference.partition(":")[0],
        reference=found.reference,
        distribution=registry.distribution_of(found.entry),
    )


def _is_package(module: object) -> bool:
    return hasattr(module, "__path__")
