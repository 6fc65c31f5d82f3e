"""What happens to packages written for another version of the contract.

A newer minor version loads with a warning, another major version is refused, except the previous one where core has an
adapter for it. An adapter stays for at least two minor releases of core; `docs/plugin-api-changes.md` says which there
are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Adapter:
    """Turns what a package of a previous major version declares and defines into what this core expects.

    Attributes:
        spec: fields of its `ModalitySpec`, as written -> fields of today's; `api_version` stays as written.
        modality: its class -> a class that keeps today's contract, usually a subclass.
    """

    spec: Callable[[Mapping[str, Any]], dict[str, Any]]
    modality: Callable[[type[Any]], type[Any]]


ADAPTERS: dict[int, Adapter] = {}
"""Major version -> adapter. Empty: version 1 is the first."""


def numbers(version: str) -> tuple[int, int]:
    """Return `(major, minor)` of a text such as "1.0"."""
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def adapter_for(version: object) -> Adapter | None:
    """Return the adapter for packages written against `version`, or None when there is none."""
    major = str(version).partition(".")[0]
    return ADAPTERS.get(int(major)) if major.isdigit() else None
