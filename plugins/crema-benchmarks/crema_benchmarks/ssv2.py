"""Something-Something v2 the way MERV asks it: five choices, the temporal ones among these, and open-ended.

Layout: the official annotations (`labels`: class to number; `validation`: id, label and template with objects in
brackets) and the official folder of clips. As MERV's first evaluation, the questions are made from clips with public
labels; its own question file (later, for the test clips) is not read. The other choices and their order are drawn here
from each clip's id, so that every run has the same.

MERV's temporal questions are those of twelve classes that its appendix lists. Write their names, as `labels` spells
them, into `temporal-classes.json`; which classes count as temporal is the evaluator's choice, and stated by that file.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.data.order import derive_seed
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media, Wording
from crema_core.errors import DatasetError, did_you_mean

LABELS, CLIPS = "something-something-v2-labels.json", "something-something-v2-{split}.json"
TEMPORAL_CLASSES = "temporal-classes.json"
QUESTION = "How is the object in the video being interacted with?"
NUM_CHOICES = 5
VIDEO = Media(modality="video", path="20bn-something-something-v2/<clip>.webm")


def read(place: Place) -> Iterator[Line]:
    """Yield the clips of one split as questions with five choices: the class, and four others."""
    classes = _classes(place)
    for entry, name in _clips(place, classes):
        yield _choice_line(place, entry, name, classes)


def read_temporal(place: Place) -> Iterator[Line]:
    """Yield the questions of `read` whose class is in `temporal-classes.json`."""
    classes = _classes(place)
    temporal = _temporal(place, classes)
    for entry, name in _clips(place, classes):
        if name in temporal:
            yield _choice_line(place, entry, name, classes) | {"type": name}


def read_open_ended(place: Place) -> Iterator[Line]:
    """Yield the clips of one split as open questions; the answer is the label, which names the clip's objects."""
    for entry, _ in _clips(place, _classes(place)):
        yield {
            "id": entry["id"],
            "question": QUESTION,
            "answer": entry["label"],
            "video": VIDEO.of(place.split, clip=entry["id"]),
        }


def _classes(place: Place) -> list[str]:
    return sorted(place.json(LABELS))


def _clips(place: Place, classes: list[str]) -> Iterator[tuple[Entry, str]]:
    for entry in place.entries(CLIPS.format(split=place.split)):
        name = entry["template"].replace("[", "").replace("]", "")
        if name not in classes:
            raise entry.wrong("template", f"no class of {LABELS}")
        yield entry, name


def _temporal(place: Place, classes: list[str]) -> list[str]:
    temporal = place.json(TEMPORAL_CLASSES)
    if not isinstance(temporal, list) or not temporal:
        raise DatasetError(
            f"{TEMPORAL_CLASSES} holds no list of class names. Write a JSON list with names of {LABELS}, those that "
            "count as temporal."
        )
    for name in temporal:
        if name not in classes:
            raise DatasetError(
                f"'{name}' of {TEMPORAL_CLASSES} is no class of {LABELS}.{did_you_mean(str(name), classes)} Write "
                "the names as that file spells them."
            )
    return temporal


def _choice_line(place: Place, entry: Entry, name: str, classes: list[str]) -> Line:
    draw = random.Random(derive_seed("ssv2", entry["id"]))
    choices = [name, *draw.sample([other for other in classes if other != name], NUM_CHOICES - 1)]
    draw.shuffle(choices)
    return {
        "id": entry["id"],
        "question": QUESTION,
        "answer": name,
        "choices": choices,
        "video": VIDEO.of(place.split, clip=entry["id"]),
    }


def _spec(
    name: str,
    summary: str,
    read: Callable[[Place], Iterator[Line]],
    *,
    notes: tuple[str, ...],
    wording: Wording = MULTIPLE_CHOICE,
    more_files: tuple[str, ...] = (),
    measures: tuple[str, ...] = (),
) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        summary=summary,
        source="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        license="Qualcomm, non-commercial",
        splits=("train", "validation"),
        files=tuple(AnnotationFile(path=path) for path in (LABELS, CLIPS, *more_files)),
        media=(VIDEO,),
        read=read,
        wording=wording,
        measures=measures,
        notes=notes,
    )


_DRAWN = "The wrong choices are drawn anew, so numbers are not MERV's to the question."
SPEC = _spec(
    "ssv2-mcq",
    "What is done with an object, five of 174 classes.",
    read,
    notes=(_DRAWN, "ssv2-temporal asks about chosen classes alone, ssv2-oe without choices."),
)
TEMPORAL = _spec(
    "ssv2-temporal",
    "What is done with an object, for classes that only the order of frames tells apart; five choices.",
    read_temporal,
    more_files=(TEMPORAL_CLASSES,),
    notes=(
        _DRAWN,
        f"{TEMPORAL_CLASSES} is yours to write: a JSON list of class names. For MERV's temporal questions, the twelve "
        "that its appendix lists.",
    ),
)
OPEN_ENDED = _spec(
    "ssv2-oe",
    "What is done with an object, open-ended; the answer names the objects.",
    read_open_ended,
    wording=Wording(source="the bare question, as MERV asks open-ended ones"),
    measures=("captions",),
    notes=("MERV lets a GPT model judge answers; here they must be equal after normalisation, or count as captions.",),
)
