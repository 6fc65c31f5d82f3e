"""The modality or fusion under test: where it comes from, its declaration, and what several checks share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crema_core.errors import PluginError, PluginLoadError
from crema_core.plugins import registry
from crema_core.plugins.groups import KINDS
from crema_core.plugins.loading import ResolvedPlugin, trial_text
from crema_core.plugins.registry import BY_HAND, Distribution, Provider
from crema_core.plugins.spec import NAME_PATTERN, ModalityOptions, ModalitySpec
from crema_core.plugins.trial import try_imports
from crema_core.testing.check import CHECKED_KINDS, CheckedKind

if TYPE_CHECKING:
    from crema_core.fusion.base import Fusion


Declared = TypeVar("Declared")
Made = TypeVar("Made")

LIGHT_IMPORT = "light import"
"""Key of the import of the entry point's module in a process of its own, among what checks share."""
IN_PROCESS = "kit_fusion"
"""Name of a fusion that was given as a class."""


@dataclass(eq=False, kw_only=True)
class PluginUnderTest(Generic[Declared]):
    """What is checked, of any kind."""

    declared: Declared | PluginError  # a spec or a class, or why there is none
    name: str  # how reports call it
    provider: str  # `distribution version`, or how it was given
    module: str = ""  # the module its entry point names; empty for one given in the process
    reference: str = ""  # the entry point's text
    distribution: Distribution | None = None  # its package's metadata; None for one given in the process
    options: str = ""  # the options that are tried at this moment, for messages; empty: none yet
    batch: str = ""  # the samples that are tried at this moment, for messages; empty: none yet
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def loaded(self) -> Declared:
        """The declaration; raises `PluginError` when it could not be loaded."""
        if isinstance(self.declared, PluginError):
            raise self.declared
        return self.declared

    @property
    def package(self) -> str:
        """The name under which its package is imported, the first part of its module's."""
        return self.module.partition(".")[0]

    @property
    def packages(self) -> tuple[Path, ...]:
        """The folders of the module's packages, outermost first; the module was imported before."""
        parts = self.module.split(".")
        names = [".".join(parts[: count + 1]) for count in range(len(parts))]
        modules = [sys.modules[name] for name in names if name in sys.modules]
        files = [module.__file__ for module in modules if hasattr(module, "__path__")]
        return tuple(Path(file).parent for file in files if file)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what `make` makes, made once for all checks."""
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made


class UnderTest(PluginUnderTest[ModalitySpec]):
    """One modality."""

    @property
    def package(self) -> str:
        """The name under which its package is imported; of a spec given in this process that of its class."""
        return (self.module or self.spec.factory).partition(".")[0].partition(":")[0]

    @property
    def spec(self) -> ModalitySpec:
        """The declaration."""
        return self.loaded

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

    def case(self, number: int) -> str:
        """Return what messages call one of the `cases`."""
        if not self.spec.test_options:
            return "the defaults"
        return f"test_options[{number}] = {self.cases[number]!r}"


@dataclass(eq=False, kw_only=True)
class FusionUnderTest(PluginUnderTest["type[Fusion]"]):
    """One fusion."""

    known_as: str  # `distribution:name`, or a name under which the class is registered while it is checked

    @property
    def package(self) -> str:
        """The name under which its package is imported; of a class given in this process that of its module."""
        return (self.module or self.strategy.__module__).partition(".")[0]

    @property
    def strategy(self) -> type[Fusion]:
        """The class."""
        return self.loaded


def find_under_test(
    item: str | ModalitySpec | type[Fusion], *, kind: CheckedKind = "modality"
) -> UnderTest | FusionUnderTest:
    """Find a modality or a fusion by its name or `distribution:name` of that kind, its spec, or its class.

    Raises:
        CremaError: as `registry.find`.
    """
    if isinstance(item, ModalitySpec):
        return UnderTest(name=item.name, provider=BY_HAND, declared=item)
    if isinstance(item, type):
        return FusionUnderTest(name=item.__name__, provider=BY_HAND, declared=item, known_as=IN_PROCESS)
    found = registry.find(kind, item)
    if kind == "modality":
        return UnderTest(**_facts(found))
    known_as = f"{found.distribution}:{found.name}" if found.entry else found.name
    return FusionUnderTest(**_facts(found), known_as=known_as)


def _facts(found: Provider) -> dict[str, Any]:
    """Return what every kind of plugin under test is made of."""
    facts: dict[str, Any] = {"name": found.name, "provider": found.provider}
    if found.entry is None:
        return facts | {"declared": _declared(found)}
    facts |= {
        "module": found.entry.module,
        "reference": found.reference,
        "distribution": registry.distribution_of(found.entry),
    }
    if found.entry.module in sys.modules:  # it was imported before, and this process is still here
        return facts | {"declared": _declared(found)}
    trial = try_imports([found.entry.module])[found.entry.module]
    if not trial.is_harmless:
        text = "\n".join(filter(None, (trial_text(found.entry, trial), trial.detail)))
        return facts | {"declared": PluginLoadError(text)}
    known = {LIGHT_IMPORT: trial} if trial.outcome == "imported" else {}
    return facts | {"declared": _declared(found), "_made": known}


def _declared(found: Provider) -> Any:
    try:
        return found.load()
    except PluginError as error:
        return error


LEFT_OUT = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__")


def is_path(text: str) -> bool:
    """Whether a word names a place and not a modality: it has a separator, ends in `.whl`, or is no legal name."""
    bare = text.rpartition(":")[2]
    return os.sep in text or text.endswith(".whl") or not NAME_PATTERN.fullmatch(bare)


@contextmanager
def unpacked(place: Path) -> Iterator[tuple[tuple[CheckedKind, str], ...]]:
    """Put a package's folder or wheel on the path and yield what can be checked: kind and `distribution:name`.

    A source folder is built as a wheel first, so what is checked is what its users will get, data files included.

    Raises:
        PluginError: when there is no such package, it cannot be built, or it provides no modality and no fusion.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = place if place.suffix == ".whl" else _build(place, Path(folder) / "wheels")
        site = Path(folder) / "site"
        try:
            zipfile.ZipFile(wheel).extractall(site)
        except (OSError, zipfile.BadZipFile) as error:
            raise PluginError(
                f"'{place}' cannot be read as a wheel: {error}. Accepted is a folder with a pyproject.toml, or a .whl "
                "file. Check the path."
            ) from None
        sys.path.insert(0, str(site))
        registry.refresh()
        try:
            own = [
                (kind, f"{one.distribution}:{one.name}")
                for kind in CHECKED_KINDS
                for one in registry.providers(kind)
                if one.entry is not None and Path(one.entry.location) == site
            ]
            if not own:
                groups = " and ".join(KINDS[kind].group for kind in CHECKED_KINDS)
                raise PluginError(
                    f"'{place}' provides no modality and no fusion: it has no entry point in the groups {groups}. Add "
                    f'one to its pyproject.toml: [project.entry-points."{KINDS["modality"].group}"]'
                )
            yield tuple(own)
        finally:
            sys.path.remove(str(site))
            registry.refresh()


def _build(place: Path, wheels: Path) -> Path:
    if not (place / "pyproject.toml").is_file():
        raise PluginError(
            f"'{place}' has no pyproject.toml. Accepted is a package's folder, or a .whl file. Check the path, or name "
            "an installed modality."
        )
    # In a copy: building leaves folders behind, and a stale .egg-info would hide the package's next entry points.
    source = shutil.copytree(place, wheels.with_name("source"), ignore=shutil.ignore_patterns(*LEFT_OUT))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(wheels), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PluginError(
            f"'{place}' cannot be built as a wheel. The build tool it names must be installed here. "
            f"See: pip wheel --no-build-isolation {place}\n{(done.stderr or done.stdout).strip()}"
        )
    return next(wheels.glob("*.whl"))
