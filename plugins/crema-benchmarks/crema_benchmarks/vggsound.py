"""VGGSound: name the sound, one of 309 classes, as a free answer.

Layout: the official `vggsound.csv` without a header (YouTube id, start second, label, split; labels hold commas and are
quoted) and ten-second clips named `<id>_<six digits of the start>.mp4`. The share of answers that are a class at all
is reported, and the accuracy among these, as CREMA does.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import seen_and_heard
from crema_benchmarks.wordings import single_word
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, sources

LABELS = "vggsound.csv"
QUESTION = "Which sound can be heard in the video?"
MEDIA = seen_and_heard("videos/<clip>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the clips of one split."""
    for entry in place.table(LABELS, "id", "start", "label", "split"):
        if entry["split"] != place.split:
            continue
        if not entry["start"].isdigit():
            raise entry.wrong("start", "not a second")
        clip = f"{entry['id']}_{int(entry['start']):06d}"
        yield {
            "id": clip,
            "question": QUESTION,
            "answer": entry["label"],
            **sources(MEDIA, place.split, clip=clip),
        }


SPEC = DatasetSpec(
    name="vggsound",
    summary="Sounds in the wild, the class named freely.",
    source="https://github.com/hche11/VGGSound",
    license="CC-BY-4.0 (labels); videos of YouTube",
    splits=("train", "test"),
    files=(AnnotationFile(path=LABELS),),
    media=MEDIA,
    read=read,
    wording=single_word("frames and audio information"),
    measures=("in_vocabulary",),
    notes=(
        "The data set has labels, not questions; the question's wording is ours.",
        "The vocabulary are the classes that occur in the evaluated file.",
    ),
)
