"""VLEP: which of two events is more likely to come next.

Layout: `data/vlep_{train,dev}_release.jsonl` of the official repository (`ts` start and end of the premise in seconds,
`events` the two futures) and clips by `vid_name`, which users obtain themselves. The test has no public answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import join_span, seen_and_heard
from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line

QUESTIONS = "data/vlep_{split}_release.jsonl"
QUESTION = "Which event is more likely to happen next?"
MEDIA = seen_and_heard("videos/<clip>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split."""
    for entry in place.json_lines(QUESTIONS.format(split=place.split)):
        start_s, end_s = entry["ts"]
        yield {
            "id": str(entry["example_id"]),
            "question": QUESTION,
            "answer": entry.pick("events", "answer"),
            "choices": entry["events"],
            **{
                media.modality: join_span(media.of(place.split, clip=entry["vid_name"]), float(start_s), float(end_s))
                for media in MEDIA
            },
        }


SPEC = DatasetSpec(
    name="vlep",
    summary="What happens next in TV shows and vlogs, two choices.",
    source="https://github.com/jayleicn/VideoLanguageFuturePred",
    license="by agreement form",
    splits=("train", "dev"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=MEDIA,
    read=read,
    wording=MULTIPLE_CHOICE,
    notes=(
        "The data set has events, not questions; the question's wording is ours.",
        "Subtitles are not given to the model.",
    ),
)
