"""What differs between two descriptions of a run (`config.json`), and whether it matters.

In two tiers: what would change a number is refused, versions of packages are mentioned; each as `key: was -> now`.
Where files and backbone lie is neither: a run may be moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crema_core.errors import CheckpointError, TrainingError

_GUARDED = ("senses", "major", "backbone", "data", "valid")
_FREE = ("model.backbone.source", "model.backbone.revision", "model.seed")  # the backbone is known by its contents
_VERSIONS = (".version", ".distribution", ".api_version")


def refuse_changes(saved: Mapping[str, Any], now: Mapping[str, Any], *, resumable: frozenset[str]) -> list[str]:
    """Raise when a run to continue would give other numbers than it did.

    Args:
        saved: contents of its `config.json`.
        now: what `config.json` would be now.
        resumable: settings that may differ.

    Returns:
        A line `key: was -> now` for each changed version of a sense's package.

    Raises:
        CheckpointError: with such a line for everything that must not change and did.
    """
    lines = [f"{key}: {saved.get(key)} -> {now[key]}" for key in _GUARDED if saved.get(key) != now[key]]
    if not lines:  # with other senses every detail of the model differs
        lines += [line for key, line in _changes(saved, now, "model") if not key.endswith(_VERSIONS)]
    lines += [line for key, line in _changes(saved, now, "settings", prefix="") if key not in resumable]
    if lines:
        raise CheckpointError(
            "This run cannot be continued, because something changed (was -> now):\n  "
            + "\n  ".join(lines)
            + "\nA continued run must agree with its config.json. Undo the change, or start a new run with another "
            "out=. Nothing was changed."
        )
    return [line for key, line in _changes(saved, now, "model") if key.endswith(_VERSIONS)]


def refuse_differences(configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise when the processes of one launch would train different things.

    Args:
        configs: what `config.json` would be in each process, by rank.

    Raises:
        TrainingError: in all processes, with a line `key: main process's -> other's` for every difference.
    """
    main = configs[0]
    for rank, other in enumerate(configs):
        lines = [f"{key}: {main[key]} -> {other[key]}" for key in _GUARDED if main[key] != other[key]]
        for part, prefix in (("model", "model."), ("settings", "")):
            lines += [line for _, line in _changes(main, other, part, prefix=prefix)]
        if lines:
            raise TrainingError(
                f"Process {rank} would train something else than process 0 (process 0 -> process {rank}):\n  "
                + "\n  ".join(lines)
                + "\nAll processes need the same data, settings, packages and weights. Give all machines the same "
                "files. Nothing was written."
            )


def _changes(
    was: Mapping[str, Any], now: Mapping[str, Any], part: str, *, prefix: str = "model."
) -> Iterator[tuple[str, str]]:
    """Yield key and line `key: was -> now` of every value below `part` that differs."""
    old, new = dict(_flat(was[part], prefix)), dict(_flat(now[part], prefix))
    for key in sorted(old.keys() | new.keys()):
        if key not in _FREE and old.get(key) != new.get(key):
            yield key, f"{key}: {old.get(key)} -> {new.get(key)}"


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested JSON data under dotted keys; entries of a list by their name."""
    if isinstance(value, Mapping) and value:
        for name, own in value.items():
            yield from _flat(own, f"{key}{name}.")
    elif isinstance(value, list | tuple) and value and all(isinstance(own, Mapping) and "name" in own for own in value):
        for own in value:
            yield from _flat(own, f"{key}{own['name']}.")
    else:
        yield key.removesuffix("."), list(value) if isinstance(value, tuple) else value
