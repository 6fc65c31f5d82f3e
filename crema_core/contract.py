"""The contract: what a package may import of core, in one place; `contract.yaml` beside this file has the names.

`EXTENSIONS` is what modalities, fusions, backbone families, encoders, data sets, metrics and presets are written with:
it stays as it is within a major version of the plugin API (`API_VERSION`). `TOOLS` is what packages that add verbs and
reports use beside it: a minor version may change it, and the changes are listed in docs/plugin-api-changes.md. Whatever
is in neither is core's own and may change at any time.

Every name can be imported from its module or from here; nothing is imported before it is asked for.

Example:
    >>> from crema_core.contract import MediaError, sheet
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from crema_core.errors import did_you_mean


def _names() -> dict[str, dict[str, tuple[str, ...]]]:
    parts = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {part: {module: tuple(names) for module, names in own.items()} for part, own in parts.items()}


_PARTS = _names()
EXTENSIONS: Mapping[str, tuple[str, ...]] = _PARTS["extensions"]
"""Module -> names that are stable within a major version of the plugin API."""
TOOLS: Mapping[str, tuple[str, ...]] = _PARTS["tools"]
"""Module -> names for packages that add verbs and reports; a minor version may change them."""

_HOMES = {name: module for part in (TOOLS, EXTENSIONS) for module, names in part.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"'{name}' is not part of the contract.{did_you_mean(name, _HOMES)} See crema_core.contract.EXTENSIONS."
        )
    return pkgutil.resolve_name(f"{_HOMES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
