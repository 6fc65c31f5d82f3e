"""Named data sets: what is installed, and data files made from their official annotations.

`prepare` reads them with the plugin's own functions, looks for every medium the lines name, and writes only when the
data file is whole. Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crema_core.common.atomic import write_text
from crema_core.common.tables import counted
from crema_core.data.data_file import FIELDS, find_faults
from crema_core.data.sampling import file_of, split_span
from crema_core.datasets.read import Place
from crema_core.datasets.spec import DatasetSpec, Line
from crema_core.errors import CremaError, DatasetError, did_you_mean, first_line
from crema_core.plugins import registry
from crema_core.plugins.registry import installed_names

NUM_SHOWN = 100


@dataclass(frozen=True)
class DatasetRecord:
    """One installed provider of a data set; `error` states why there is no `spec`."""

    name: str
    distribution: str
    version: str
    spec: DatasetSpec | None
    error: str = ""


def list_datasets() -> tuple[DatasetRecord, ...]:
    """Return one record per provider; a broken package does not hide the others."""
    return tuple(_record(provider) for provider in registry.providers("dataset"))


def find_dataset(reference: str) -> DatasetSpec:
    """Return the declaration of `name` or `distribution:name`.

    Raises:
        DatasetError: when no package provides it.
        PluginError: when the package is switched off, broken, or not the only one.

    Example:
        >>> find_dataset("nextqa").splits
        ('train', 'val', 'test')
    """
    found: DatasetSpec = registry.load("dataset", reference)
    return found


def _record(provider: registry.Provider) -> DatasetRecord:
    try:
        if provider.refusal is not None:
            return DatasetRecord(provider.name, provider.distribution, provider.version, None, provider.refusal)
        return DatasetRecord(provider.name, provider.distribution, provider.version, provider.load())
    except CremaError as error:
        return DatasetRecord(provider.name, provider.distribution, provider.version, None, str(error))


@dataclass(frozen=True)
class Prepared:
    """What was written."""

    path: Path  # the data file
    num_lines: int  # questions in it
    modalities: tuple[str, ...]  # modalities it has sources of
    left_out: dict[str, str]  # modalities the data set knows and the file does not have, with the reason
    num_skipped: int = 0  # questions left out because a source is missing


def prepare(
    name: str,
    *,
    root: str | os.PathLike[str],
    split: str,
    out: str | os.PathLike[str],
    modalities: Sequence[str] | None = None,
    missing: Literal["error", "skip"] = "error",
    replace: bool = False,
) -> Prepared:
    """Write the data file of one split.

    Args:
        name: the data set.
        root: folder with its files, laid out as `crema data list --json` says.
        split: one of its splits.
        out: the data file to write.
        modalities: modalities to take; None: those that are installed and whose folder exists.
        missing: "skip" leaves out questions of which a source is missing; videos of the web disappear.
        replace: overwrite an existing file.

    Raises:
        DatasetError: for an unknown data set, split or modality, files that are missing (all of them are named) or not
            in the official layout; nothing is written.
    """
    spec = find_dataset(name)
    place, target = Place(Path(root), split), Path(out)
    if split not in spec.splits:
        raise DatasetError(
            f"{spec.name} has no split '{split}' with public answers. Splits: {', '.join(spec.splits)}."
            f"{did_you_mean(split, spec.splits)} Name one of these."
        )
    if target.exists() and not replace:
        raise DatasetError(f"'{target}' exists. Nothing was written. Name another file, or add --replace.")
    files = [path for path in spec.files_of(split) if not (place.root / path).is_file()]
    if files:
        raise _missing(spec, place.root, files, what="annotation file")
    chosen, left_out = _choose(spec, place, modalities)
    lines = _lines(spec, place, chosen)
    _check_texts(spec, lines)
    absent = _absent(spec, place.root, lines)
    if absent and missing == "error":
        raise _missing(spec, place.root, absent, what="media file")
    kept = [line for line in lines if not any(file_of(path) in absent for path in _sources(spec, line))]
    if not kept:
        raise _missing(spec, place.root, absent, what="media file", end=", so no question is left")
    folder = target.absolute().parent
    text = "".join(json.dumps(_relative(line, place.root, folder), ensure_ascii=False) + "\n" for line in kept)
    write_text(target, text)
    return Prepared(target, len(kept), chosen, left_out, len(lines) - len(kept))


def _choose(
    spec: DatasetSpec, place: Place, modalities: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    root, split = place.root, place.split
    if modalities is not None:
        for modality in modalities:
            if modality not in spec.modalities:
                raise DatasetError(
                    f"{spec.name} has no sources of '{modality}'. It has: {', '.join(spec.modalities)}."
                    f"{did_you_mean(modality, spec.modalities)} Name some of these."
                )
        return tuple(modalities), {
            modality: "not asked for" for modality in spec.modalities if modality not in modalities
        }
    installed = installed_names()
    left_out = {}
    for media in spec.media:
        if media.modality not in installed:
            left_out[media.modality] = "not installed"
        elif not (root / media.folder(split)).is_dir():
            left_out[media.modality] = f"no folder {media.folder(split)}"
    chosen = tuple(media.modality for media in spec.media if media.modality not in left_out)
    if not chosen:
        layout = "; ".join(f"{media.modality}: {media.splits.get(split, media.path)}" for media in spec.media)
        raise DatasetError(
            f"'{root}' has no media of {spec.name}. Expected there: {layout}. Nothing was written. Put the media "
            "there, or name the modalities to take with --modalities to see which files are missing."
        )
    return chosen, left_out


def _lines(spec: DatasetSpec, place: Place, modalities: Sequence[str]) -> list[Line]:
    """Return what the annotations hold; values of another kind than the official ones are an error of ours."""
    try:
        return [_keep(line, spec, modalities) for line in spec.read(place)]
    except CremaError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError) as error:
        raise DatasetError(
            f"The annotations of {spec.name} are not in the official layout: {type(error).__name__}, "
            f"{first_line(error)[:200]}. Nothing was written. Download them again from {spec.source}."
        ) from error


def _keep(line: Line, spec: DatasetSpec, modalities: Sequence[str]) -> Line:
    kept = {key: value for key, value in line.items() if value is not None and (key in FIELDS or key in modalities)}
    kept["dataset"] = spec.name
    return {key: kept[key] for key in (*FIELDS, *spec.modalities) if key in kept}


def _check_texts(spec: DatasetSpec, lines: Sequence[Line]) -> None:
    if not lines:
        raise DatasetError(
            f"The annotations of {spec.name} hold no question of this split. Nothing was written. Download them again "
            f"from {spec.source}."
        )
    known = frozenset(spec.modalities)
    faults = [
        f"- {line['id']}: {fault}"
        for line in lines
        for fault in find_faults(json.loads(json.dumps(line)), known, known)
    ]
    if faults:
        raise DatasetError(
            "\n".join(
                [
                    f"{counted(len(faults), 'problem')} in the annotations of {spec.name}. Nothing was written:",
                    *_cut(faults),
                    f"Download them again from {spec.source}.",
                ]
            )
        )


def _absent(spec: DatasetSpec, root: Path, lines: Sequence[Line]) -> dict[str, None]:
    files = dict.fromkeys(file_of(path) for line in lines for path in _sources(spec, line))
    # os.path: of a name that no file can have it is False too.
    return {path: None for path in files if not os.path.exists(root / path)}  # noqa: PTH110


def _sources(spec: DatasetSpec, line: Line) -> list[str]:
    found: list[str] = []
    for modality in spec.modalities:
        source = line.get(modality, [])
        found += [source] if isinstance(source, str) else source
    return found


def _missing(spec: DatasetSpec, root: Path, absent: Collection[str], *, what: str, end: str = "") -> DatasetError:
    verb = "is" if len(absent) == 1 else "are"
    return DatasetError(
        "\n".join(
            [
                f"{counted(len(absent), what)} of {spec.name} {verb} missing in '{root}'{end}. Nothing was written:",
                *_cut([f"- {path}" for path in absent]),
                f"Get them from {spec.source} ({spec.license}).",
            ]
        )
    )


def _cut(items: Sequence[str]) -> list[str]:
    more = [f"- and {len(items) - NUM_SHOWN:,} more"] if len(items) > NUM_SHOWN else []
    return [*items[:NUM_SHOWN], *more]


def _relative(line: Line, root: Path, folder: Path) -> Line:
    def move(path: str) -> str:
        name = split_span(path).path
        return os.path.relpath(root.absolute() / name, folder) + path[len(name) :]

    moved = {
        key: [move(path) for path in value] if isinstance(value, list) else move(value)
        for key, value in line.items()
        if key not in FIELDS
    }
    return {**line, **moved}
