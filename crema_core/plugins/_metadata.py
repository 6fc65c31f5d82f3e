"""What is installed: entry points, versions, requirements. The only module that touches importlib_metadata.

One scan per process serves every lookup, because a scan reads the metadata of all distributions from disk (about
20 ms for a hundred). Everything is derived from installed metadata, so worker processes and ranks agree.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import importlib_metadata


@dataclass(frozen=True)
class InstalledEntryPoint:
    """One line of one distribution's `entry_points.txt`."""

    group: str  # entry-point group, for example `crema.modalities`
    name: str  # name before the equals sign
    reference: str  # text after it, `package.module:attribute`
    distribution: str  # name of the distribution as its metadata spells it
    version: str  # version of the distribution
    editable: bool = False  # installed with `pip install -e`
    location: str = ""  # folder the metadata was found in
    # locations further down the path with other metadata of the same distribution (a stale `.egg-info`)
    shadowed: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """`distribution version`, for messages."""
        return f"{self.distribution} {self.version}"

    @property
    def module(self) -> str:
        """The module that is imported, `package.module`."""
        return self.reference.partition(":")[0].strip()

    def load(self) -> Any:
        """Import the module and return the object; without `:attribute` the module itself.

        Raises:
            ValueError: when the reference is not `package.module` or `package.module:attribute`.
            Exception: whatever the module's code raises.
        """
        module_name, colon, attribute = (part.strip() for part in self.reference.partition(":"))
        if not module_name or (colon and not attribute):
            raise ValueError(f"'{self.reference}' is not 'package.module:attribute'")
        module = importlib.import_module(module_name)
        return functools.reduce(getattr, attribute.split("."), module) if attribute else module


@dataclass(frozen=True)
class Distribution:
    """One installed distribution, as its metadata folder says."""

    name: str  # as the metadata spells it
    version: str  # empty when the metadata lack one
    location: str  # folder the metadata was found in
    metadata: str = ""  # name of the metadata folder, `crema_radar-0.1.0.dist-info`
    editable: bool = False  # installed with `pip install -e`
    source: str = ""  # of an editable one the folder it was installed from
    requires: tuple[str, ...] = ()  # its requirements, PEP 508 texts
    readme: bool = False  # whether the metadata have one, as `license`
    license: bool = False
    entry_points: str = ""  # the text of `entry_points.txt`, empty when there is none

    @property
    def key(self) -> str:
        """The one spelling of the name, for comparisons."""
        return _canonical(self.name)


def distributions(path: Sequence[str] | None = None) -> tuple[Distribution, ...]:
    """Return every distribution in the order of the path (None: `sys.path`), those found twice too."""
    context = {} if path is None else {"path": list(path)}
    return tuple(_facts(distribution) for distribution in importlib_metadata.distributions(**context))


@functools.cache
def scan() -> tuple[InstalledEntryPoint, ...]:
    """Return the entry points of all groups that start with `crema.`, sorted by group, name and distribution.

    Metadata found twice for one distribution counts once: the first on the path is the one Python imports.
    """
    found: dict[str, list[InstalledEntryPoint]] = {}
    elsewhere: dict[str, list[str]] = {}
    for distribution in importlib_metadata.distributions():
        try:
            if "[crema." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            if not (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")):
                warnings.warn(
                    f"{distribution.locate_file('')} holds a half-removed package: entry points without metadata. "
                    "It is ignored. Remove its .dist-info folder, or install the package again.",
                    stacklevel=2,
                )
                continue
            entries = _entries_of(distribution)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one package's files is not the others' fault
            warnings.warn(
                f"The metadata in {getattr(distribution, '_path', distribution.locate_file(''))} cannot be read "
                f"({type(error).__name__}: {error}). The package is ignored. Install it again, or remove the folder.",
                stacklevel=2,
            )
            continue
        if not entries:
            continue
        key = _canonical(entries[0].distribution)
        if key not in found:
            found[key] = entries
        elif _content(entries) != _content(found[key]):
            elsewhere.setdefault(key, []).append(entries[0].location)
    flat = [
        replace(entry, shadowed=tuple(elsewhere.get(key, ()))) for key, entries in found.items() for entry in entries
    ]
    return tuple(sorted(flat, key=lambda entry: (entry.group, entry.name, entry.distribution)))


def forget() -> None:
    """Drop the scan, so that packages installed meanwhile are seen."""
    importlib.invalidate_caches()
    scan.cache_clear()


def same_distribution(left: str, right: str) -> bool:
    """True when two spellings (`Crema_Audio`, `crema-audio`) name one distribution."""
    return _canonical(left) == _canonical(right)


def unmet(requirement: str, versions: Mapping[str, str] | None = None) -> str | None:
    """Return None when a PEP 508 requirement is met, else what is there: `found 2.1.0` or `it is not installed`.

    A marker that does not apply here is met. `versions`: of canonical distributions, instead of those installed here.
    """
    from packaging.requirements import Requirement  # here, because listing does not need its 30 ms

    wanted = Requirement(requirement)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        found = importlib_metadata.version(wanted.name) if versions is None else versions[_canonical(wanted.name)]
    except (importlib_metadata.PackageNotFoundError, KeyError):
        return "it is not installed"
    return None if wanted.specifier.contains(found, prereleases=True) else f"found {found}"


def _facts(distribution: Any) -> Distribution:
    headers = distribution.metadata
    direct_url = json.loads(distribution.read_text("direct_url.json") or "{}")
    editable = bool(direct_url.get("dir_info", {}).get("editable", False))
    licensed = any(headers.get(key) for key in ("License-Expression", "License", "License-File"))
    return Distribution(
        name=headers.get("Name") or "",
        version=headers.get("Version") or "",
        location=str(distribution.locate_file("")),
        metadata=Path(str(getattr(distribution, "_path", ""))).name,
        editable=editable,
        source=_folder_of(direct_url.get("url", "")) if editable else "",
        requires=tuple(distribution.requires or ()),
        readme=bool((headers.get("Description") or headers.get_payload() or "").strip()),
        license=licensed or any(text.startswith("License ::") for text in headers.get_all("Classifier") or ()),
        entry_points=distribution.read_text("entry_points.txt") or "",
    )


def _folder_of(url: str) -> str:
    """Return the folder of a `file:` address; a drive of Windows has no slash before it."""
    return re.sub(r"^/(?=[A-Za-z]:)", "", unquote(urlsplit(url).path))


def _entries_of(distribution: Any) -> list[InstalledEntryPoint]:
    own = _facts(distribution)
    return [
        InstalledEntryPoint(entry.group, entry.name, entry.value, own.name, own.version, own.editable, own.location)
        for entry in distribution.entry_points
        if entry.group.startswith("crema.")
    ]


def _canonical(distribution: str) -> str:
    """Return the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _content(entries: list[InstalledEntryPoint]) -> list[tuple[str, str, str, str]]:
    return [(entry.group, entry.name, entry.reference, entry.version) for entry in entries]
