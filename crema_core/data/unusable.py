"""Samples whose files cannot be used: found before hours of work where that is cheap, and left out where one says so.

`on_error="stop"` (`--on-error stop`) refuses them, all in one message. `"skip"` leaves them out, lists them in a file
and counts them, unless they are more than a share of the samples: a wrong folder must not become a small data set.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from crema_core.common.atomic import write_text
from crema_core.common.reading import ABSENT, obstacle_of_source, parse_json, read_text
from crema_core.data.limits import require_bounds
from crema_core.data.sampling import file_of
from crema_core.errors import CheckpointError, CremaError, DataFileError, first_line
from crema_core.plugins import registry
from crema_core.plugins.spec import ARRAY_SUFFIXES, CLIP_SUFFIXES, PICTURE_SUFFIXES, SOUND_SUFFIXES, ModalitySpec

OnError = Literal["stop", "skip"]
"""What is done about samples whose files cannot be used."""
Why = Literal["missing", "blocked", "empty", "ending", "unreadable"]
MAX_SKIPPED = 0.1
"""Largest share of the samples of one data file that "skip" leaves out."""
SKIPPED = "skipped.jsonl"
"""File of a run folder with the samples that were left out, one JSON object per line."""
NUM_SHOWN = 20

_FAMILIES = (
    frozenset(CLIP_SUFFIXES),
    frozenset(SOUND_SUFFIXES) - frozenset(CLIP_SUFFIXES),
    frozenset(PICTURE_SUFFIXES),
    frozenset(ARRAY_SUFFIXES),
)
"""Endings that one reader of core reads: who declares one of them reads them all."""
_COUNTED: Mapping[Why, str] = {
    "missing": "with a missing file",
    "blocked": "with a file that cannot be opened",
    "empty": "with an empty file",
    "ending": "with a file of another kind",
    "unreadable": "with an unreadable file",
}


@dataclass(frozen=True)
class Unusable:
    """A sample that cannot be used, and why."""

    data: str  # name of the data file; empty for samples that are no file
    line: int  # in the data file, or the sample's place, from 1
    id: str  # of the sample
    modality: str  # whose source it is
    source: str  # the file, from the data file's folder where it lies below it
    why: Why
    reason: str  # what follows the file's name in a sentence; of an unreadable one a sentence or more

    def __str__(self) -> str:
        place = f"{self.data} line {self.line}" if self.data else f"record {self.line}"
        if self.why == "unreadable":
            return f"{place}, {self.modality}: {self.reason}"
        return f"{place}, {self.modality}: {self.source} {self.reason}"


class SampleSet(Protocol):
    """What is known about the samples of one data file."""

    @property
    def records(self) -> Sequence[object]:
        """Every sample."""
        ...

    @property
    def unusable(self) -> Sequence[Unusable]:
        """Those that cannot be used."""
        ...

    @property
    def name(self) -> str:
        """Of the data file; empty for samples that are no file."""
        ...


class SourceCheck:
    """Looks at names and sizes of files, each once.

    Args:
        specs: declarations of modalities by name; None: those of installed packages.

    Raises:
        OptionsError: when a bound on one source is none, before hours of work rather than at the first source.
    """

    def __init__(self, specs: Mapping[str, ModalitySpec] | None = None) -> None:
        require_bounds()
        self._specs = specs
        self._endings: dict[str, frozenset[str] | None] = {}
        self._faults: dict[str, dict[str, tuple[Why, str] | None]] = {}  # by modality and file

    def fault(self, modality: str, source: str) -> tuple[Why, str] | None:
        """Return why a file, or the part of one, cannot be read by a modality; None where only reading can tell."""
        file = file_of(source) if "#" in source else source
        known = self._faults.setdefault(modality, {})
        if file not in known:
            known[file] = self._look(modality, Path(file))
        return known[file]

    def _look(self, modality: str, file: Path) -> tuple[Why, str] | None:
        if (reason := obstacle_of_source(file)) is not None:
            return "missing" if reason == ABSENT else "blocked", reason
        if file.is_dir():
            return None
        accepted = self.endings(modality)
        if accepted is not None and file.suffix.lower() not in accepted:
            ending = f"ends in '{file.suffix}'" if file.suffix else "has no ending"
            return "ending", f"{ending}, which '{modality}' does not read ({', '.join(sorted(accepted))})"
        return ("empty", "is empty (0 bytes)") if file.stat().st_size == 0 else None

    def endings(self, modality: str) -> frozenset[str] | None:
        """Return the endings a modality reads, lower case with the dot; None where it declares none."""
        if modality not in self._endings:
            self._endings[modality] = _endings(self._spec(modality))
        return self._endings[modality]

    def _spec(self, modality: str) -> ModalitySpec | None:
        if self._specs is not None:
            return self._specs.get(modality)
        try:
            return registry.resolve(modality).spec
        except CremaError:  # not installed, switched off or broken, which is said where the modality is built
            return None


def _endings(spec: ModalitySpec | None) -> frozenset[str] | None:
    """Return what a modality reads: what it declares, and the other endings of the readers of core that it names."""
    # Arrays in memory and folders have no ending.
    declared = set() if spec is None else {suffix.lower() for own in spec.inputs for suffix in own.suffixes}
    if not declared:
        return None
    return frozenset(declared.union(*(family for family in _FAMILIES if declared & family)))


def settle(samples: Sequence[SampleSet], *, on_error: OnError, max_skipped: float = MAX_SKIPPED) -> list[str]:
    """Refuse unusable samples, or return one sentence for each data file about those that are left out.

    Args:
        samples: of one data file or several, all of which are named in one message.
        on_error: "stop" refuses, "skip" leaves out.
        max_skipped: the largest share of the samples of a data file that is left out.

    Raises:
        DataFileError: naming the unusable samples.
    """
    concerned = [own for own in samples if own.unusable]
    if on_error == "stop" and concerned:
        advice = 'Fix the files or their paths, or pass on_error="skip" to leave these samples out.'
        raise DataFileError("\n".join([*(describe(own) for own in concerned), advice]))
    for own in concerned:
        refuse_many(own, max_skipped=max_skipped)
    return [f"{summary(own)} They are left out." for own in concerned]


def refuse_many(samples: SampleSet, *, max_skipped: float) -> None:
    """Raise when more samples cannot be used than may be left out, or none is left.

    Raises:
        DataFileError: naming the unusable samples.
    """
    num_bad, total = len(samples.unusable), len(samples.records)
    if num_bad < total and num_bad <= max_skipped * total:
        return
    if num_bad == total:
        raise DataFileError(f"{describe(samples)}\nNo sample is left. Fix the files or their paths.")
    raise DataFileError(
        f"{describe(samples)}\nThat is {num_bad / total:.1%} of the samples, and at most max_skipped={max_skipped:g} "
        f"of them may be left out. Fix the files or their paths, or pass max_skipped={_above(num_bad, total):g} to "
        "leave out as many."
    )


def _above(num_bad: int, total: int) -> float:
    """Return a share with two places that allows as many, 1 at most."""
    return min(-(-100 * num_bad // total), 100) / 100


def summary(samples: SampleSet) -> str:
    """Return a sentence: "3 of 1,204 samples of train.jsonl cannot be used: 2 with a missing file, 1 with an ..."."""
    counts = Counter(own.why for own in samples.unusable)
    listed = ", ".join(f"{counts[why]:,} {text}" for why, text in _COUNTED.items() if counts[why])
    of = f" of {samples.name}" if samples.name else ""
    return f"{len(samples.unusable):,} of {len(samples.records):,} samples{of} cannot be used: {listed}."


def describe(samples: SampleSet) -> str:
    """Return the summary and a line for each of the first unusable samples."""
    shown = [f"- {own}" for own in samples.unusable[:NUM_SHOWN]]
    if len(samples.unusable) > NUM_SHOWN:
        shown.append(f"- and {len(samples.unusable) - NUM_SHOWN:,} more")
    return "\n".join([summary(samples), *shown])


def write_skipped(path: Path, unusable: Mapping[str, Sequence[Unusable]]) -> None:
    """Write the samples that were left out, one JSON object per line; the file appears whole or not at all.

    Args:
        path: the file.
        unusable: by what the data are to the run: "data", "eval_data".
    """
    lines = [{"of": of, **asdict(one)} for of, own in unusable.items() for one in own]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_skipped(path: Path) -> dict[str, list[Unusable]]:
    """Return what `write_skipped` wrote; data without such samples are not in it.

    Raises:
        CheckpointError: when the file cannot be read.
    """
    found: dict[str, list[Unusable]] = {}
    try:
        for text in read_text(path, most=None).split("\n"):
            if text:
                values = parse_json(text)
                found.setdefault(values.pop("of"), []).append(Unusable(**values))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read ({type(error).__name__}: {first_line(error)}). It has one line for each sample "
            "that a run leaves out, and the run continues without the same samples. Restore the file, or start a new "
            "run with another out=. Nothing was changed."
        ) from error
    return found
