"""What is wrong with an environment: packages found twice, stale metadata, wrong entry points, versions that clash.

Everything is read from installed metadata; only the light modules of plugins and those of hooks are imported, to see
whether they can be: in another process first, so that one that hangs or crashes is a finding and not the end.
Each finding ends with what to type.
"""

from __future__ import annotations

import configparser
import os
import platform
import re
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from crema_core.errors import PluginError, did_you_mean
from crema_core.plugins import registry
from crema_core.plugins._metadata import Distribution, InstalledEntryPoint, distributions, scan, unmet
from crema_core.plugins.fence import switch_off
from crema_core.plugins.groups import GROUPS, KINDS
from crema_core.plugins.loading import CORE_DISTRIBUTION, Policy, repair_hint, trial_text
from crema_core.plugins.spec import API_VERSION
from crema_core.plugins.trial import try_imports

TORCH = ("torch", "torchvision", "torchaudio")
REFERENCE = re.compile(r"^[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*)?$")
VISION_AHEAD = 15
"""torchvision 0.N+15 belongs to torch 2.N (0.15 came with 2.0)."""


@dataclass(frozen=True)
class Finding:
    """Something to repair: what kind of thing, what was found with what to type, and a traceback where there is one."""

    kind: str
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The environment and what is wrong with it."""

    environment: dict[str, str]
    packages: tuple[Distribution, ...]
    findings: tuple[Finding, ...]

    def describe(self) -> dict[str, Any]:
        """Return it as JSON data."""
        keys = ("name", "version", "location", "editable", "source")
        packages = [{key: getattr(package, key) for key in keys} for package in self.packages]
        return {
            "environment": self.environment,
            "packages": packages,
            "findings": [asdict(found) for found in self.findings],
        }


def examine(path: Sequence[str] | None = None) -> Diagnosis:
    """Look at the packages in the folders of `path`; None: of this process, whose plugins are imported too."""
    found = distributions(path)
    ours = tuple(own for own in found if own.key == CORE_DISTRIBUTION or "[crema" in own.entry_points)
    texts = {
        "entry point": _entry_points(ours),
        "name given twice": _names_given_twice(_first(ours)),
        "version conflict": _requirements(_first(ours), None if path is None else _first(found)),
        "torch builds": torch_builds({own.key: own.version for own in _first(found)}),
    }
    findings = [*_doubles(found, ours), *(Finding(kind, text) for kind, own in texts.items() for text in own)]
    if path is None:
        findings += [*_broken(), *_strangers()]
    stack = tuple(own for own in _first(found) if own.key in TORCH)
    return Diagnosis(_environment(path), (*ours, *stack), tuple(findings))


def _environment(path: Sequence[str] | None) -> dict[str, str]:
    return {
        "interpreter": sys.executable,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "virtual environment": sys.prefix if sys.prefix != sys.base_prefix else "none",
        "plugin API": API_VERSION,
        **{name: value for name, value in sorted(os.environ.items()) if name.startswith("CREMA_")},
        "path": os.pathsep.join(folder for folder in (sys.path if path is None else path) if Path(folder).is_dir()),
    }


def _first(found: Sequence[Distribution]) -> tuple[Distribution, ...]:
    """Keep of every distribution the one Python imports: the first on the path."""
    return tuple({own.key: own for own in reversed(found)}.values())[::-1]


def _doubles(found: Sequence[Distribution], ours: Sequence[Distribution]) -> Iterator[Finding]:
    """Yield packages whose metadata lie in several places and disagree, so that one hides another."""
    watched = {own.key for own in ours} | set(TORCH)
    places: dict[str, list[Distribution]] = defaultdict(list)
    for own in found:
        if own.key in watched:
            places[own.key].append(own)
    for used, *hidden in places.values():
        for other in hidden:
            if (other.version, other.entry_points) == (used.version, used.entry_points):
                continue
            stale = used.metadata.endswith(".egg-info")
            remove = f"{used.location}/{used.metadata}" if stale else f"{other.location}/{other.metadata}"
            yield Finding(
                "stale metadata" if stale else "found twice",
                f"{used.name} {used.version} in {used.location} ({used.metadata}) hides {other.version} in "
                f"{other.location} ({other.metadata}). One environment has one. Delete {remove}, then pip install "
                f"--force-reinstall {used.name}",
            )


def _entry_points(ours: Sequence[Distribution]) -> Iterator[str]:
    """Yield entry points nobody can load: groups that do not exist, texts that name no object."""
    for own in ours:
        parser = _parser(own)
        if isinstance(parser, configparser.Error):
            yield (
                f"entry_points.txt of {own.name} {own.version} cannot be read: {str(parser).splitlines()[0]}. Lines "
                f"are 'name = package.module:SPEC'. Repair its pyproject.toml and install it again."
            )
            continue
        for group in parser.sections():
            if group.startswith("crema") and group not in GROUPS:
                yield (
                    f"{own.name} {own.version} has entry points in '{group}', which nothing reads. Groups: "
                    f"{', '.join(GROUPS)}.{did_you_mean(group, GROUPS)} Correct its pyproject.toml and "
                    "install it again."
                )
            for name, reference in parser.items(group) if group in GROUPS else ():
                if not REFERENCE.match(reference.strip()):
                    yield (
                        f"{own.name} {own.version} has '{name} = {reference}'. The text is 'package.module:SPEC'. "
                        "Correct its pyproject.toml and install it again."
                    )


def _parser(own: Distribution) -> configparser.RawConfigParser | configparser.Error:
    """Return the entry points of a package by group and name, or why they cannot be read."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(own.entry_points)
    except configparser.Error as error:
        return error
    return parser


def _names_given_twice(ours: Sequence[Distribution]) -> Iterator[str]:
    """Yield names that several packages provide and that may be used; of hooks every one is called."""
    policy = Policy.from_environment()
    owners: dict[tuple[str, str], list[InstalledEntryPoint]] = defaultdict(list)
    for own in ours:
        parser = _parser(own)
        if isinstance(parser, configparser.Error):
            continue  # said by another finding
        for group in parser.sections():
            for name, reference in parser.items(group):
                entry = InstalledEntryPoint(group, name, reference, own.name, own.version)
                if policy.refusal(entry) is None:
                    owners[group, name].append(entry)
    for kind in (kind for kind in KINDS.values() if not kind.broadcast):
        for (group, name), entries in owners.items():
            if group != kind.group or len(entries) < 2:
                continue
            entries.sort(key=lambda entry: entry.distribution)
            choose = " or ".join(f"'{entry.distribution}:{name}'" for entry in entries)
            yield (
                f"{len(entries)} packages provide the {kind.noun} '{name}': "
                f"{', '.join(entry.provider for entry in entries)}. The name alone is refused. "
                + (f"Write {choose}, or switch" if kind.chosen_by_prefix else "Switch")
                + f" one off: {switch_off(entries[0].distribution)}"
            )


def _requirements(ours: Sequence[Distribution], found: Sequence[Distribution] | None) -> Iterator[str]:
    """Yield requirements of core and of plugins that what is installed does not meet."""
    versions = None if found is None else {own.key: own.version for own in found}
    for own in ours:
        for text in own.requires:
            marker = Requirement(text).marker
            if marker is not None and not marker.evaluate({"extra": ""}):
                continue
            wanted = text.partition(";")[0].strip()
            missing = unmet(wanted, versions)
            if missing is not None:
                yield f"{own.name} {own.version} needs {wanted}; {missing}. Run: pip install '{wanted}'"


def _broken() -> Iterator[Finding]:
    """Yield light plugins that cannot be loaded, with the cause, and heavy ones whose module is not there."""
    every = [found for kind in KINDS for found in registry.providers(kind) if found.refusal is None]
    tried = [own for own in every if _is_tried(own) and REFERENCE.match(own.reference)]
    trials = try_imports([own.entry.module for own in tried if own.entry is not None])
    for found in every:
        module = found.reference.partition(":")[0]
        trial = trials.get(module)
        if _is_tried(found) and found.entry is not None and trial is not None and not trial.is_harmless:
            yield Finding("broken plugin", trial_text(found.entry, trial), trial.detail)
        elif _is_tried(found):
            try:
                found.load()
            except PluginError as error:
                detail = "" if error.__cause__ is None else "".join(traceback.format_exception(error.__cause__))
                yield Finding("broken plugin", str(error), detail)
            if found.entry is not None and trial is not None and trial.printed.strip():
                first = trial.printed.strip().splitlines()[0]
                yield Finding(
                    "prints",
                    f"{module} of {found.provider} prints when it is imported: {first!r}. Every command shows that on "
                    f"standard error. Tell its authors, or switch it off: {switch_off(found.distribution)}",
                )
        elif found.entry is not None and REFERENCE.match(found.reference) and not _is_there(module):
            yield Finding(
                "broken plugin",
                f"'{found.name}' ({found.provider}) is a {found.kind.noun} in {found.reference}, and there is no "
                f"module {module}. {repair_hint(found.entry)}",
            )


def _is_tried(found: registry.Provider) -> bool:
    """Whether a plugin's module is imported by other commands before it is used: listings and every run do."""
    return found.kind.light or found.kind.broadcast


def _is_there(module: str) -> bool:
    """Whether Python would find a module; the packages around it are not imported."""
    path: Sequence[str] | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if name in sys.modules and count == len(parts):
            return True
        found = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next((one for one in found if one is not None), None)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _strangers() -> Iterator[Finding]:
    """Yield words of the environment variables that match no plugin."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Policy.from_environment().warn_about_strangers(scan())
    for warning in caught:
        yield Finding("environment variable", str(warning.message))


def torch_builds(versions: Mapping[str, str]) -> Iterator[str]:
    """Yield which of torch and its kin do not belong together: releases and builds (`+cpu`, `+cu130`) must match.

    Args:
        versions: distribution -> version, as installed.

    Example:
        >>> list(torch_builds({"torch": "2.11.0", "torchvision": "0.26.0", "torchaudio": "2.11.0"}))
        []
    """
    try:
        torch = Version(versions["torch"])
        beside = {name: Version(versions[name]) for name in ("torchvision", "torchaudio") if name in versions}
    except (KeyError, InvalidVersion):
        return
    due = {"torchaudio": torch.release[:2], "torchvision": (0, torch.release[1] + VISION_AHEAD)}
    for name, version in beside.items():
        series = ".".join(map(str, due[name]))
        if version.release[:2] != due[name]:
            yield (
                f"{name} {version} does not belong to torch {torch}. Its extensions need the torch they were built "
                f"for: {name} {series}. Run: pip install '{name}=={series}.*'"
            )
        elif version.local != torch.local:
            yield (
                f"torch is the {_build(torch)} build, {name} the {_build(version)} build. Both must come from one "
                "index. Install them together: pip install --force-reinstall torch torchvision torchaudio"
            )


def _build(version: Version) -> str:
    return f"'{version.local}'" if version.local else "default"
