"""Manifests: the videos they name, and a copy that names the results too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crema_core.common.atomic import write_text
from crema_core.data.manifest import FIELDS, read_manifest
from crema_core.errors import ManifestError


def videos_of(manifest: Path, *, key: str = "video") -> list[str]:
    """Return the files under `key`, each once, in order.

    Raises:
        ManifestError: when the manifest cannot be used or no line has the key.
    """
    records = read_manifest(manifest, modalities=[key])
    found = [path for record in records for path in record.paths(key)[:1]]
    if not found:
        raise ManifestError(
            f"No line of {manifest.name} has '{key}'. Videos are taken from that key. Name another with --key. Nothing "
            "was written."
        )
    return list(dict.fromkeys(found))


def write_with_results(
    manifest: Path, out: Path, results: Mapping[str, Mapping[str, str]], *, key: str = "video"
) -> int:
    """Write a copy of a manifest whose lines name the files that exist; all else stays as it was.

    Paths are relative to the copy, which may lie in another folder.

    Args:
        manifest: the original.
        out: the copy; may be the original.
        results: absolute video path -> sense -> file.
        key: the field videos are under.

    Returns:
        number of lines that gained a sense.
    """
    here, there = manifest.parent.absolute(), out.parent.absolute()
    lines, gained = [], 0
    for text in manifest.read_text(encoding="utf-8-sig").split("\n"):
        if not text.strip():
            continue
        values: dict[str, Any] = json.loads(text)
        for name, value in values.items():
            if name not in FIELDS and value is not None:
                values[name] = _moved(value, here, there)
        source = values.get(key)
        first = source[0] if isinstance(source, list) else source
        files = results.get(os.path.normpath(there / first), {}) if isinstance(first, str) else {}
        present = {sense: file for sense, file in files.items() if Path(file).exists()}
        gained += bool(present)
        for sense, file in present.items():
            values[sense] = os.path.relpath(Path(file).absolute(), there)
        lines.append(json.dumps(values, ensure_ascii=False))
    write_text(out, "\n".join(lines) + "\n")
    return gained


def _moved(value: Any, here: Path, there: Path) -> Any:
    if isinstance(value, list):
        return [_moved(entry, here, there) for entry in value]
    if Path(value).is_absolute() or here == there:
        return value
    return os.path.relpath(here / value, there)
