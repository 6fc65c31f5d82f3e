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
from dataclasses import dataclass
from typing import Any

import importlib_metadata


@dataclass(frozen=True)
class InstalledEntryPoint:
    """One line of one distribution's `entry_points.txt`.

    Attributes:
        group: entry-point group, for example `crema.modalities`.
        name: name before the equals sign.
        reference: text after it, `package.module:attribute`.
        distribution: name of the distribution as its metadata spells it.
        version: version of the distribution.
        editable: installed with `pip install -e`.
        location: folder the metadata was found in.
        shadowed: locations further down the path with other metadata of the same distribution (a stale `.egg-info`).
    """

    group: str
    name: str
    reference: str
    distribution: str
    version: str
    editable: bool = False
    location: str = ""
    shadowed: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """`distribution version`, for messages."""
        return f"{self.distribution} {self.version}"

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


@functools.cache
def scan() -> tuple[InstalledEntryPoint, ...]:
    """Return the entry points of all groups that start with `crema.`, sorted by group, name and distribution.

    Metadata found twice for one distribution counts once: the first on the path is the one Python imports.
    """
    found: dict[str, list[InstalledEntryPoint]] = {}
    elsewhere: dict[str, list[str]] = {}
    for distribution in importlib_metadata.distributions():
        if "[crema." not in (distribution.read_text("entry_points.txt") or ""):
            continue
        if not (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")):
            warnings.warn(
                f"{distribution.locate_file('')} holds a half-removed package: entry points without metadata. "
                "It is ignored. Remove its .dist-info folder, or install the package again.",
                stacklevel=2,
            )
            continue
        key = _canonical(distribution.metadata["Name"])
        entries = _entries_of(distribution)
        if key not in found:
            found[key] = entries
        elif _content(entries) != _content(found[key]):
            elsewhere.setdefault(key, []).append(entries[0].location)
    flat = [
        InstalledEntryPoint(**{**entry.__dict__, "shadowed": tuple(elsewhere.get(key, ()))})
        for key, entries in found.items()
        for entry in entries
    ]
    return tuple(sorted(flat, key=lambda entry: (entry.group, entry.name, entry.distribution)))


def forget() -> None:
    """Drop the scan, so that packages installed meanwhile are seen."""
    importlib.invalidate_caches()
    scan.cache_clear()


def same_distribution(left: str, right: str) -> bool:
    """True when two spellings (`Crema_Audio`, `crema-audio`) name one distribution."""
    return _canonical(left) == _canonical(right)


def unmet(requirement: str) -> str | None:
    """Check one requirement against what is installed.

    Args:
        requirement: PEP 508 text, for example `torchaudio>=2.4`; a marker that does not apply here is met.

    Returns:
        None when it is met, else what is there instead: `found 2.1.0` or `it is not installed`.
    """
    from packaging.requirements import Requirement  # here, because listing does not need its 30 ms

    wanted = Requirement(requirement)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        version = importlib_metadata.version(wanted.name)
    except importlib_metadata.PackageNotFoundError:
        return "it is not installed"
    return None if wanted.specifier.contains(version, prereleases=True) else f"found {version}"


def _entries_of(distribution: Any) -> list[InstalledEntryPoint]:
    direct_url = json.loads(distribution.read_text("direct_url.json") or "{}")
    return [
        InstalledEntryPoint(
            group=entry.group,
            name=entry.name,
            reference=entry.value,
            distribution=distribution.metadata["Name"],
            version=distribution.version,
            editable=bool(direct_url.get("dir_info", {}).get("editable", False)),
            location=str(distribution.locate_file("")),
        )
        for entry in distribution.entry_points
        if entry.group.startswith("crema.")
    ]


def _canonical(distribution: str) -> str:
    """Return the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _content(entries: list[InstalledEntryPoint]) -> list[tuple[str, str, str, str]]:
    return [(entry.group, entry.name, entry.reference, entry.version) for entry in entries]
