"""Data files: the videos they name, and a copy that names the results too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crema_core.common.atomic import write_text
from crema_core.common.reading import parse_json, read_text
from crema_core.data.data_file import Samples, moved_line, read_samples
from crema_core.errors import DataFileError, ReadError
from crema_geometry.extract.run import absolute_text


def samples_of(data_file: Path, *, key: str = "video") -> Samples:
    """Read a data file whose videos are under `key`, and which of them cannot be used; other keys do not matter.

    Raises:
        DataFileError: when the data file cannot be used or no line has the key.
    """
    samples = read_samples(data_file, modalities=[key], tell_ignored=False)
    if not any(record.paths(key) for record in samples.records):
        raise DataFileError(
            f"No line of {data_file.name} has '{key}'. Videos are taken from that key. Name another with --key. "
            "Nothing was written."
        )
    return samples


def videos_of(samples: Samples, *, key: str = "video") -> list[str]:
    """Return the files under `key` of the usable lines, each once, in order."""
    return list(dict.fromkeys(path for record in samples.usable for path in record.paths(key)[:1]))


def with_failed(samples: Samples, failed: Mapping[str, str], *, key: str = "video") -> Samples:
    """Return the samples, of which those are unusable too whose video failed: text of a video -> reason."""
    unreadable = {
        (key, record.paths(key)): failed[absolute_text(record.paths(key)[0])]
        for record in samples.records
        if record.paths(key) and absolute_text(record.paths(key)[0]) in failed
    }
    return samples.without(unreadable)


def write_with_results(
    data_file: Path, out: Path, results: Mapping[str, Mapping[str, str]], *, key: str = "video"
) -> int:
    """Write a copy of a data file whose lines name the files that exist; all else stays as it was.

    Paths are relative to the copy, which may lie in another folder.

    Args:
        data_file: the original.
        out: the copy; may be the original.
        results: video as jobs name it, absolute -> modality -> file.
        key: the field videos are under.

    Returns:
        number of lines that gained a modality.
    """
    here, there = data_file.parent.absolute(), out.parent.absolute()
    lines, gained = [], 0
    for text in read_text(data_file, most=None).split("\n"):
        if not text.strip():
            continue
        try:
            found = parse_json(text)
        except ReadError:
            found = None
        if not isinstance(found, dict):  # it was skipped as unusable, and is copied as it is
            lines.append(text)
            continue
        values: dict[str, Any] = moved_line(found, here, there)
        source = values.get(key)
        first = next(iter(source), None) if isinstance(source, list) else source  # an empty list names no video
        files = results.get(absolute_text(str(there / first)), {}) if isinstance(first, str) else {}
        present = {modality: file for modality, file in files.items() if Path(file).exists()}
        gained += bool(present)
        for modality, file in present.items():
            values[modality] = os.path.relpath(Path(file).absolute(), there)
        lines.append(json.dumps(values, ensure_ascii=False))
    write_text(out, "\n".join(lines) + "\n")
    return gained
