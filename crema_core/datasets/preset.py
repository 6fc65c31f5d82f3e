"""What a preset is: a run of a paper, complete with its model and what every value rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One run.

    Attributes:
        name: for example "nextqa-vfdn".
        dataset: the named data set it trains on; "" where the paper's data are none of these, see the note "data".
        config: fields of `crema fit`'s configuration, settings of the training apart.
        settings: settings of the training.
        notes: what each value rests on, by its name.
    """

    name: str
    dataset: str
    config: dict[str, Any]
    settings: dict[str, Any]
    notes: dict[str, str]
