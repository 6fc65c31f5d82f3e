"""How sure an accuracy, or a change of one, is: intervals with an effective number of questions.

Questions about one clip stand or fall together, so they tell less than as many questions about as many clips. How much
less is what the clips' sums vary by, compared with independent questions (the design effect of a survey that draws
clusters); the intervals are those of independent questions with that many fewer of them:

- an accuracy: Wilson's score interval (Brown, Cai and DasGupta 2001);
- a change between two answers to the same questions: Bonett and Price's adjusted Wald interval of pairs (2012).

Both have a width where all answers are alike and are meant for few questions too, where drawing clips (bootstrap) gives
0 to 0. The design effect is the estimate of Korn and Graubard (1998): fewer degrees of freedom with few clips, never
fewer questions than clips and never more than there are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
METHOD = "95% Wilson score interval, questions about one clip counted as a cluster"
CHANGE_METHOD = "95% Bonett-Price interval of pairs, questions about one clip counted as a cluster"
_NORMAL_FROM = 1000
"""Degrees of freedom from which Student's t is taken for normal; the quantiles differ by less than 0.3%."""


def accuracy_interval(right: Sequence[float], clips: Sequence[str], *, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval in which the accuracy on other clips of the same kind lies.

    Args:
        right: of every question, at least one: 1 or True where it is answered right, 0 where not, between for a draw.
        clips: the clip each is about; equal texts are one clip.
        level: how often such an interval contains the true accuracy, 0..1.

    Returns:
        Lower and upper end, 0..1, with the accuracy between them. A single clip says nothing about others: 0 and 1.

    Example:
        >>> low, high = accuracy_interval([False, False], ["a", "b"])
        >>> f"{low:.2f} to {high:.2f}"
        '0.00 to 0.66'
    """
    count = effective_questions(right, clips, level=level)
    if count is None:
        return 0.0, 1.0
    share, z_squared = sum(right) / len(right), _normal_quantile(level) ** 2
    centre = (share + z_squared / (2 * count)) / (1 + z_squared / count)
    spread = max(share * (1 - share), 0.0) / count + z_squared / (4 * count**2)
    half = math.sqrt(z_squared * spread) / (1 + z_squared / count)
    # At 0 and 1 the ends meet the share itself, but for rounding.
    return min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)


def change_interval(
    right: Sequence[float], before: Sequence[float], clips: Sequence[str], *, level: float = LEVEL
) -> tuple[float, float]:
    """Return the interval in which the change of an accuracy on other clips of the same kind lies.

    Pairs are compared, so what makes a question easy or hard in both situations drops out; the interval is narrower
    than the difference of two intervals, and one without 0 is a change that other clips would show too.

    Args:
        right: of every question, at least one, as in `accuracy_interval`.
        before: the same questions, answered in the situation compared with.
        clips: the clip each is about.
        level: how often such an interval contains the true change, 0..1.

    Returns:
        Lower and upper end, -1..1, with the change between them. A single clip says nothing about others: -1 and 1.

    Example:
        >>> low, high = change_interval([False, False], [True, True], ["a", "b"])
        >>> f"{low:.2f} to {high:.2f}"
        '-1.00 to 0.35'
    """
    changes = [own - old for own, old in zip(right, before, strict=True)]
    count = effective_questions(changes, clips, level=level)
    if count is None:
        return -1.0, 1.0
    change, squares = sum(changes) / len(changes), sum(own**2 for own in changes) / len(changes)
    # Two questions more, one gained and one lost.
    centre = change * count / (count + 2)
    variance = max((squares * count + 2) / (count + 2) - centre**2, 0.0) / (count + 2)
    half = _normal_quantile(level) * math.sqrt(variance)
    return min(max(centre - half, -1.0), change), max(min(centre + half, 1.0), change)


def effective_questions(values: Sequence[float], clips: Sequence[str], *, level: float = LEVEL) -> float | None:
    """Return as how many independent questions those about clips count; None for a single clip.

    Args:
        values: of every question.
        clips: the clip each is about.
        level: of the interval it is for.

    Returns:
        A number between that of clips, all their questions being one, and that of questions. Clips of different size
        count as fewer: as many as equal ones that vary as much.
    """
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for value, clip in zip(values, clips, strict=True):
        sums[clip][0] += value
        sums[clip][1] += 1
    if len(sums) < 2:
        return None
    totals, sizes = np.array(list(sums.values()), dtype=np.float64).T
    num_questions, num_clips = sizes.sum(), len(sizes)
    fewest = num_questions**2 / (sizes**2).sum()
    mean = totals.sum() / num_questions
    alone = float(np.var(np.asarray(values, dtype=np.float64))) / num_questions
    by_clip = ((totals - mean * sizes) ** 2).sum() / num_questions**2 * num_clips / (num_clips - 1)
    if alone <= 0:  # all alike: nothing shows how much the questions of a clip have in common
        return float(fewest)
    freedom = (_normal_quantile(level) / student_quantile(level, num_clips - 1)) ** 2
    design = max(by_clip / alone, 1e-12)
    return float(np.clip(num_questions / max(design, 1.0) * freedom, fewest, num_questions))


def student_quantile(level: float, degrees: int) -> float:
    """Return the t of which a share `level` of Student's distribution lies between -t and t.

    Args:
        level: 0..1, without the ends.
        degrees: of freedom, 1 or more.

    Example:
        >>> f"{student_quantile(0.95, 4):.3f}"
        '2.776'
    """
    if degrees >= _NORMAL_FROM:
        return _normal_quantile(level)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # the angle atan(t / sqrt(degrees)), halved until no float lies between
        middle = (low + high) / 2
        low, high = (middle, high) if _student_share(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _student_share(angle: float, degrees: int) -> float:
    """Return the share between -t and t for t = sqrt(degrees) tan(angle): Abramowitz and Stegun 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for index in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * index / (index + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _normal_quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
