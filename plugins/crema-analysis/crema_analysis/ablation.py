"""Which modality matters for which questions: one model, asked again and again with less.

Three ways to take something away: one modality left out; modalities added one by one to the question alone (the rows of
the papers' tables); one modality taken from another clip, which keeps the number of tokens and takes the information.
Every variant answers the same questions, so changes are measured on pairs and their intervals are drawn over clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from crema_analysis.asking import Asked, Cache, Data, ask, chosen_settings
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.common.tables import table
from crema_core.data.data_file import Record
from crema_core.data.unusable import NUM_SHOWN, Unusable
from crema_core.datasets.spec import Column
from crema_core.errors import OptionsError, did_you_mean
from crema_core.evaluation.breakdown import breakdown
from crema_core.evaluation.intervals import CHANGE_METHOD, METHOD, change_interval
from crema_core.evaluation.judge import Judge
from crema_core.evaluation.predictions import clip_of
from crema_core.evaluation.run import usable_samples
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.features.feature_cache import FeatureCache, as_cache

__all__ = ["Ablation", "ablate"]


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
        low, high: 95% interval, see `crema_core.evaluation.intervals`.
        change: accuracy minus that with all modalities, -1..1.
        change_low, change_high: 95% interval of the change, of pairs.
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
        """Whether accuracy is lower than with all modalities beyond what other clips might undo."""
        return self.change_high < 0


@dataclass(frozen=True)
class Variant:
    """One way of asking.

    Attributes:
        label: for tables.
        what: the comparison it belongs to; "all" for the model with all its modalities.
        modalities: those that took part.
        modality: the one left out, added last or taken from another clip; empty where there is none.
        cells: one per question type, then the data set's groups, then "all".
        tokens_per_answer: mean number of tokens given to the language model.
        num_ties: questions whose best choices have equal scores, each counted as a draw among them.
    """

    label: str
    what: str
    modalities: tuple[str, ...]
    modality: str
    cells: tuple[Cell, ...]
    tokens_per_answer: float
    num_ties: int = 0

    def cell(self, name: str) -> Cell:
        """Return the cell of a question type, a group or "all"."""
        return next(cell for cell in self.cells if cell.name == name)


@dataclass(frozen=True)
class Ablation:
    """What was found.

    Attributes:
        variants: the model with all its modalities first.
        num_questions: questions each of them answered.
        num_clips: clips the questions are about.
        left_out: comparisons that the data do not allow, by label, each with the reason.
        skipped: samples left out because a file of theirs cannot be used; empty unless `on_error` is "skip".
    """

    variants: tuple[Variant, ...]
    num_questions: int
    num_clips: int
    left_out: dict[str, str] = field(default_factory=dict)
    skipped: tuple[Unusable, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Question types, groups and "all", in that order."""
        return tuple(cell.name for cell in self.variants[0].cells)

    def of(self, what: What) -> list[Variant]:
        """Return the variants of one comparison."""
        return [variant for variant in self.variants if variant.what == what]

    def needed(self) -> dict[str, tuple[str, ...]]:
        """Return by question type the modalities without which, or with another clip's, its accuracy drops.

        A drop counts when its interval lies below 0; the modality that costs most comes first.
        """
        found: dict[str, tuple[str, ...]] = {}
        for column in self.columns:
            losses: defaultdict[str, float] = defaultdict(float)
            for variant in self.variants:
                cell = variant.cell(column)
                if variant.what in ("leave-one-out", "shuffled") and cell.is_loss:
                    losses[variant.modality] = min(losses[variant.modality], cell.change)
            found[column] = tuple(sorted(losses, key=losses.__getitem__))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        needed = {name: list(own) for name, own in self.needed().items()}
        return {**asdict(self), "needed": needed, "intervals": {"accuracy": METHOD, "change": CHANGE_METHOD}}

    def __str__(self) -> str:
        rows = [["modalities", *self.columns]]
        for variant in self.variants:
            rows.append([variant.label, *(f"{100 * cell.accuracy:.1f}{_mark(cell)}" for cell in variant.cells)])
        needed = [["questions", "modalities they need"]]
        needed += [[name, ", ".join(own) or "none found"] for name, own in self.needed().items()]
        note = (
            "Accuracy in per cent. -: below that with all modalities, +: above, where the 95% interval of "
            f"pairs about {self.num_clips:,} clips does not contain equality."
        )
        if tied := [f"{own.label} {own.num_ties:,}" for own in self.variants if own.num_ties]:
            note += f" Ties, each counted as a draw among the choices of equal score: {', '.join(tied)}."
        parts = [table(rows), note]
        if self.left_out:
            parts.append("\n".join(["Not compared:", *(f"- {label}: {why}" for label, why in self.left_out.items())]))
        if self.skipped:
            parts.append("\n".join(["Left out:", *(f"- {own}" for own in self.skipped[:NUM_SHOWN])]))
            if len(self.skipped) > NUM_SHOWN:
                parts[-1] += f"\n- and {len(self.skipped) - NUM_SHOWN:,} more"
        if self.of("leave-one-out") or self.of("shuffled"):
            parts.append(table(needed))
        return "\n\n".join(parts)


def _mark(cell: Cell) -> str:
    return "-" if cell.is_loss else "+" if cell.change_low > 0 else " "


class Plan(NamedTuple):
    """One way of asking, as it is planned: see `Variant`."""

    label: str
    what: str
    modalities: tuple[str, ...]
    modality: str
    shuffle: str | None = None


class _Answered(NamedTuple):
    type: str
    credit: float
    clip: str
    tied: tuple[str, ...] = ()  # counted by the variant


def ablate(
    model: CremaModel,
    data: Data,
    settings: EvaluationSettings | None = None,
    *,
    what: What | Sequence[What] = WHATS,
    order: Sequence[str] | None = None,
    cache: Cache = None,
    status: StatusLine | None = None,
    **changes: object,
) -> Ablation:
    """Ask one model all questions with all modalities, and again with less.

    Modalities that no question has a source of are left aside, and so are comparisons that the data do not allow: a
    modality is taken from another clip only where there are two. With `on_error="skip"` all variants are asked the
    same questions, those whose sources of every modality can be read.

    Args:
        model: a built model; it is left in the mode it was in.
        data: a data file, or records.
        settings: of the evaluations, whole; `out` is a folder for the answers of every variant, one file each.
            None: the defaults.
        what: comparisons, any of "leave-one-out", "growing" and "shuffled".
        order: modalities in the order of growing sets; None: the model's.
        cache: features of this model, or the folder of a cache; None: in memory, so the encoders run once all the same.
        status: where progress is shown.
        **changes: single settings, fields of `EvaluationSettings`.

    Raises:
        OptionsError: for an unknown comparison or setting, an order of other modalities, a rule that does not exist, or
            when the data allow none of the comparisons.
        DataFileError: for data without any question, or samples whose files cannot be used.
        CheckpointError: when `out` cannot be continued.

    Example:
        >>> print(ablate(model, "test.jsonl", what="leave-one-out"))    # doctest: +SKIP
    """
    settings = chosen_settings(settings, changes, own=("modalities", "shuffle", "measures"), title="ablate")
    given = as_cache(model, cache)
    features = FeatureCache(model) if given is None else given
    samples = usable_samples(model, data, settings, names=model.names, cache=features, status=status)
    records = samples.usable
    names = tuple(name for name in model.names if any(name in record.sources for record in records))
    plans, left_out = plan_comparisons(names, records, what=what, order=order)
    settings = settings.model_copy(update={"on_error": "stop"})  # the same questions for all, found above
    done: dict[tuple[tuple[str, ...], str | None], Asked] = {}
    for plan in plans:
        key = plan.modalities, plan.shuffle
        if key not in done:
            out = None if settings.out is None else settings.out / f"{_file_name(plan)}.jsonl"
            own = settings.model_copy(update={"modalities": plan.modalities, "shuffle": plan.shuffle, "out": out})
            done[key] = ask(model, records, own, cache=features, status=status)
    columns = Judge(records, scorer=settings.scorer, measures=()).columns
    answered = {
        key: [_Answered(own.type, credit, clip_of(own)) for own, credit in zip(records, asked.credit, strict=True)]
        for key, asked in done.items()
    }
    base = answered[names, None]
    variants = []
    for plan in plans:
        key = plan.modalities, plan.shuffle
        cells = _cells(answered[key], base, columns)
        result = done[key].result
        facts = result.tokens_per_answer, result.num_ties
        variants.append(Variant(plan.label, plan.what, plan.modalities, plan.modality, cells, *facts))
    num_clips = len({own.clip for own in base})
    return Ablation(tuple(variants), len(records), num_clips, left_out, tuple(samples.unusable))


def plan_comparisons(
    names: Sequence[str], records: Sequence[Record], *, what: What | Sequence[What], order: Sequence[str] | None
) -> tuple[list[Plan], dict[str, str]]:
    """Return the ways of asking, and the comparisons that the data do not allow, each with the reason.

    Args:
        names: modalities that the questions have sources of, in the model's order.
        records: the questions.
        what, order: as for `ablate`.

    Raises:
        OptionsError: for an unknown comparison, an order of other modalities, or when nothing can be compared.
    """
    wanted, names = _wanted(what), tuple(names)
    plans, left_out = [], {}
    for plan in _plans(names, wanted, order=_order(names, order)):
        number = 2 if plan.shuffle is None else len({own.paths(plan.shuffle) for own in records} - {()})
        if number < 2:
            left_out[plan.label] = f"all questions have the same source of {plan.shuffle}, and exchanging needs two"
        else:
            plans.append(plan)
    if len(plans) == 1 and left_out:
        raise OptionsError(
            f"Nothing can be compared: {'; '.join(f'{label}: {why}' for label, why in left_out.items())}. Comparisons: "
            f"{', '.join(WHATS)}. Use data about several clips, or another comparison."
        )
    return plans, left_out


def _wanted(what: What | Sequence[What]) -> tuple[What, ...]:
    names = (what,) if isinstance(what, str) else tuple(what)
    for name in names:
        if name not in WHATS:
            raise OptionsError(
                f"'{name}' is not a comparison. Comparisons: {', '.join(WHATS)}.{did_you_mean(name, WHATS)} Name one "
                "or more of these."
            )
    return names


def _order(names: tuple[str, ...], order: Sequence[str] | None) -> tuple[str, ...]:
    if order is None:
        return names
    if sorted(order) != sorted(names):
        raise OptionsError(
            f"order='{','.join(order)}' is not an order of the modalities that are asked. Each of {', '.join(names)} "
            "comes once. Write them in the order in which they are added, or leave order out."
        )
    return tuple(order)


def _plans(names: tuple[str, ...], wanted: Sequence[What], *, order: tuple[str, ...]) -> Iterator[Plan]:
    yield Plan("all modalities", ALL, names, "")
    if "leave-one-out" in wanted:
        for name in names:
            yield Plan(f"without {name}", "leave-one-out", tuple(own for own in names if own != name), name)
    if "growing" in wanted:
        yield Plan("question alone", "growing", (), "")
        for count, name in enumerate(order, start=1):
            modalities = tuple(own for own in names if own in order[:count])
            yield Plan(name if count == 1 else f"+ {name}", "growing", modalities, name)
    if "shuffled" in wanted:
        for name in names:
            yield Plan(f"{name} of another clip", "shuffled", names, name, shuffle=name)


def _file_name(plan: Plan) -> str:
    modalities = "-".join(plan.modalities) or "question"
    return modalities if plan.shuffle is None else f"{modalities}.{plan.shuffle}-shuffled"


def _cells(answered: Sequence[_Answered], base: Sequence[_Answered], columns: Sequence[Column]) -> tuple[Cell, ...]:
    """Return the accuracies of a variant, compared with those of the model with all its modalities."""
    types = {column.name: column.types for column in columns}
    cells = []
    for row in breakdown(answered, columns=columns):
        kept = [
            place for place, own in enumerate(base) if row.name == ALL or own.type in types.get(row.name, (row.name,))
        ]
        right, before = [answered[place].credit for place in kept], [base[place].credit for place in kept]
        low, high = change_interval(right, before, [base[place].clip for place in kept])
        change = (sum(right) - sum(before)) / len(kept)
        cells.append(Cell(row.name, row.accuracy, row.number, row.low, row.high, change, low, high))
    return tuple(cells)
