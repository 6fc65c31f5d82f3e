"""How much each of several encoders contributes: means by question type, and the clips where it contributes most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

ALL = "all"


class Said(NamedTuple):
    """What is needed of an answered question.

    Attributes:
        type: of the question.
        clip: it was asked about.
        weights: share of each encoder.
    """

    type: str
    clip: str
    weights: Mapping[str, float]


def mean_weights(said: Iterable[Said]) -> dict[str, dict[str, float]]:
    """Average by question type.

    Returns:
        By type in alphabetical order, then "all": the mean share of each encoder; nothing where nothing was weighed.

    Example:
        >>> mean_weights([Said("color", "a.mp4", {"siglip": 0.75, "vivit": 0.25})])["all"]
        {'siglip': 0.75, 'vivit': 0.25}
    """
    rows = list(said)
    if not rows:
        return {}
    kinds = sorted({row.type for row in rows if row.type})
    parts = {kind: [row.weights for row in rows if row.type == kind] for kind in kinds}
    return {name: _mean(own) for name, own in {**parts, ALL: [row.weights for row in rows]}.items()}


def strongest_clips(said: Iterable[Said], *, count: int = 3) -> dict[str, list[tuple[str, float]]]:
    """Return, for every encoder, the clips where its share is largest, with the share; largest first."""
    by_clip = {row.clip: row.weights for row in said}  # a weight is of the clip, whatever the question
    names = list(dict.fromkeys(name for weights in by_clip.values() for name in weights))
    return {
        name: sorted(((clip, own[name]) for clip, own in by_clip.items()), key=lambda pair: -pair[1])[:count]
        for name in names
    }


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
