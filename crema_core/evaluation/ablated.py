"""What an ablation found: accuracies of variants side by side, and which sense a type of question needs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from crema_core.common.tables import table

What = Literal["leave-one-out", "growing", "shuffled"]
WHATS: tuple[What, ...] = get_args(What)
ALL = "all"


@dataclass(frozen=True)
class Cell:
    """The accuracy of one variant on one group of questions.

    Attributes:
        name: a question type, a group of types the data set reports, or "all".
        accuracy: 0..1.
        number: questions.
        low, high: 95% bootstrap interval over clips.
        change: accuracy minus that with all senses, -1..1.
        change_low, change_high: 95% interval of the change, over pairs.
    """

    name: str
    accuracy: float
    number: int
    low: float
    high: float
    change: float
    change_low: float
    change_high: float

    @property
    def is_loss(self) -> bool:
        """Whether accuracy is lower than with all senses beyond what other clips might undo."""
        return self.change_high < 0


@dataclass(frozen=True)
class Variant:
    """One way of asking.

    Attributes:
        label: for tables.
        what: the comparison it belongs to; "all" for the model with all its senses.
        senses: those that took part.
        sense: the one left out, added last or taken from another clip; empty where there is none.
        cells: one per question type, then the data set's groups, then "all".
        tokens_per_answer: mean number of tokens given to the language model.
    """

    label: str
    what: str
    senses: tuple[str, ...]
    sense: str
    cells: tuple[Cell, ...]
    tokens_per_answer: float

    def cell(self, name: str) -> Cell:
        """Return the cell of a question type, a group or "all"."""
        return next(cell for cell in self.cells if cell.name == name)


@dataclass(frozen=True)
class Ablation:
    """What was found.

    Attributes:
        variants: the model with all its senses first.
        num_questions: questions each of them answered.
        num_clips: clips the questions are about.
    """

    variants: tuple[Variant, ...]
    num_questions: int
    num_clips: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Question types, groups and "all", in that order."""
        return tuple(cell.name for cell in self.variants[0].cells)

    def of(self, what: What) -> list[Variant]:
        """Return the variants of one comparison."""
        return [variant for variant in self.variants if variant.what == what]

    def needed(self) -> dict[str, tuple[str, ...]]:
        """Return by question type the senses without which, or with another clip's, its accuracy drops.

        A drop counts when its interval lies below 0; the sense that costs most comes first.
        """
        found: dict[str, tuple[str, ...]] = {}
        for column in self.columns:
            losses: defaultdict[str, float] = defaultdict(float)
            for variant in self.variants:
                cell = variant.cell(column)
                if variant.what in ("leave-one-out", "shuffled") and cell.is_loss:
                    losses[variant.sense] = min(losses[variant.sense], cell.change)
            found[column] = tuple(sorted(losses, key=losses.__getitem__))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "needed": {name: list(own) for name, own in self.needed().items()}}

    def __str__(self) -> str:
        rows = [["senses", *self.columns]]
        for variant in self.variants:
            rows.append([variant.label, *(f"{100 * cell.accuracy:.1f}{_mark(cell)}" for cell in variant.cells)])
        needed = [["questions", "senses they need"]]
        needed += [[name, ", ".join(own) or "none found"] for name, own in self.needed().items()]
        note = (
            "Accuracy in per cent. -: below that with all senses, +: above, where the 95% interval over "
            f"{self.num_clips:,} clips does not contain equality."
        )
        parts = [table(rows), note]
        if self.of("leave-one-out") or self.of("shuffled"):
            parts.append(table(needed))
        return "\n\n".join(parts)


def _mark(cell: Cell) -> str:
    return "-" if cell.is_loss else "+" if cell.change_low > 0 else " "
