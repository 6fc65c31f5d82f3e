"""The modality or fusion under test: its declaration, its package, and what several checks share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crema_core.errors import PluginError
from crema_core.plugins import registry
from crema_core.plugins.registry import Distribution, ResolvedPlugin
from crema_core.plugins.spec import ModalityOptions, ModalitySpec

if TYPE_CHECKING:
    from crema_core.fusion.base import Fusion

Made = TypeVar("Made")

IN_PROCESS = "kit_fusion"
"""Name of a fusion that was given as a class."""


@dataclass(eq=False, kw_only=True)
class PluginUnderTest:
    """What is checked, of any kind.

    Attributes:
        name: how reports call it.
        provider: `distribution version`, or how it was given.
        module: the module its entry point names; empty for one given in the process.
        reference: the entry point's text.
        distribution: its package's metadata; None for one given in the process.
    """

    name: str
    provider: str
    module: str = ""
    reference: str = ""
    distribution: Distribution | None = None
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def packages(self) -> tuple[Path, ...]:
        """The folders of the module's packages, outermost first; the module was imported before."""
        parts = self.module.split(".")
        names = [".".join(parts[: count + 1]) for count in range(len(parts))]
        modules = [sys.modules[name] for name in names if name in sys.modules]
        return tuple(Path(module.__file__).parent for module in modules if module.__file__ and _is_package(module))

    def share(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what `make` makes, made once for all checks."""
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made


@dataclass(eq=False, kw_only=True)
class Subject(PluginUnderTest):
    """One modality.

    Attributes:
        declared: the spec, or why there is none.
    """

    declared: ModalitySpec | PluginError

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
        """The option sets the modality is tried with: those it declares for tests, else the defaults."""
        return self.spec.test_options or (self.spec.options(),)


@dataclass(eq=False, kw_only=True)
class FusionUnderTest(PluginUnderTest):
    """One fusion.

    Attributes:
        declared: the class, or why there is none.
        known_as: `distribution:name`, or a name under which the class is registered while it is checked.
    """

    declared: type[Fusion] | PluginError
    known_as: str

    @property
    def strategy(self) -> type[Fusion]:
        """The class.

        Raises:
            PluginError: when it could not be loaded.
        """
        if isinstance(self.declared, PluginError):
            raise self.declared
        return self.declared


def find_fusion(item: str | type[Fusion]) -> FusionUnderTest:
    """Find a fusion by its name, `distribution:name`, or class.

    Raises:
        OptionsError: when nothing provides the name.
        DuplicatePluginError: when several packages do.
        PluginDisabledError: when an environment variable switches it off.
    """
    if isinstance(item, type):
        return FusionUnderTest(name=item.__name__, provider="given in this process", declared=item, known_as=IN_PROCESS)
    found = registry.find("fusion", item)
    declared: type[Fusion] | PluginError
    try:
        declared = found.load()
    except PluginError as error:
        declared = error
    if found.entry is None:
        return FusionUnderTest(name=found.name, provider=found.provider, declared=declared, known_as=found.name)
    return FusionUnderTest(
        name=found.name,
        provider=found.provider,
        declared=declared,
        known_as=f"{found.distribution}:{found.name}",
        module=found.reference.partition(":")[0],
        reference=found.reference,
        distribution=registry.distribution_of(found.entry),
    )


def find_subject(item: str | ModalitySpec) -> Subject:
    """Find a sense by its name, `distribution:name`, or spec.

    Raises:
        UnknownModalityError: when nothing provides the name.
        DuplicateModalityError: when several packages do.
        PluginDisabledError: when an environment variable switches it off.
    """
    if isinstance(item, ModalitySpec):
        return Subject(name=item.name, provider="given in this process", declared=item)
    found = registry.find("modality", item)
    if found.entry is None:
        return Subject(name=found.name, provider=found.provider, declared=found.load())
    declared: ModalitySpec | PluginError
    try:
        declared = found.load()
    except PluginError as error:
        declared = error
    return Subject(
        name=found.name,
        provider=found.provider,
        declared=declared,
        module=found.reference.partition(":")[0],
        reference=found.reference,
        distribution=registry.distribution_of(found.entry),
    )


def _is_package(module: object) -> bool:
    return hasattr(module, "__path__")
