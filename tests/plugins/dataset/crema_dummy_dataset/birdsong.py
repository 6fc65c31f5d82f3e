"""Which bird sings, from a table of labels."""

from __future__ import annotations

from collections.abc import Iterator

from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

LABELS = "labels-{split}.csv"
CLIP = Media(modality="video", path="clips/<clip>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield one question per clip."""
    for entry in place.table(LABELS.format(split=place.split)):
        yield {
            "id": entry["clip"],
            "question": "Which bird sings?",
            "answer": entry["bird"],
            "video": CLIP.of(place.split, clip=entry["clip"]),
        }


SPEC = DatasetSpec(
    name="birdsong",
    summary="Which bird sings.",
    source="https://example.org/birdsong",
    license="CC0-1.0",
    splits=("train", "test"),
    files=(AnnotationFile(path=LABELS),),
    media=(CLIP,),
    read=read,
)
