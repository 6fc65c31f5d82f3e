"""What the data set commute declares, and how its annotations are read; imports no torch."""

from collections.abc import Iterator

from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media, sources

QUESTIONS = "questions-{split}.json"
MEDIA = (
    Media(modality="video", path="videos/<take>.mp4"),
    Media(modality="eeg", path="eeg/<take>.edf"),
    Media(modality="gps_track", path="tracks/<take>.gpx"),
    Media(modality="events", path="events/<take>.npy"),
)


def read(place: Place) -> Iterator[Line]:
    """Yield one line of the data file per question of a split; a key that is absent becomes an error with its place."""
    for entry in place.entries(QUESTIONS.format(split=place.split)):
        yield {
            "id": str(entry["id"]),
            "question": entry["question"],
            "choices": entry["choices"],
            "answer": entry.pick("choices", "correct"),
            **sources(MEDIA, place.split, take=entry["take"]),
        }


SPEC = DatasetSpec(
    name="commute",
    summary="Ways to work, recorded by four sensors.",
    source="https://example.org/commute",
    license="CC-BY-4.0",
    splits=("train", "test"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=MEDIA,
    read=read,
)
