"""Video-MME: 900 videos from seconds to an hour, four choices.

Layout: the official hub data set (lmms-eval/Video-MME), a Parquet file and the videos by their YouTube id. Options come
lettered ("A. ..."); the letters are taken off, because the model's own wording letters them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from crema_benchmarks.media import seen_and_heard
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, sources

QUESTIONS = "videomme/test-00000-of-00001.parquet"
LETTERS = "ABCD"
MEDIA = seen_and_heard("data/<video>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield all questions; the type is the video's length: short, medium or long."""
    for entry in place.parquet(QUESTIONS):
        choices = [re.sub(r"^[A-D]\.\s*", "", option) for option in entry["options"]]
        if entry["answer"] not in LETTERS[: len(choices)]:
            raise entry.wrong("answer", "not a letter of its options")
        yield {
            "id": entry["question_id"],
            "question": entry["question"],
            "answer": choices[LETTERS.index(entry["answer"])],
            "choices": choices,
            "type": entry["duration"],
            **sources(MEDIA, place.split, video=entry["videoID"]),
        }


SPEC = DatasetSpec(
    name="videomme",
    summary="Broad questions about short, medium and long videos, four choices, without subtitles.",
    source="https://huggingface.co/datasets/lmms-eval/Video-MME",
    license="research only",
    splits=("test",),
    files=(AnnotationFile(path=QUESTIONS),),
    media=MEDIA,
    read=read,
    notes=("Reading the annotations needs pyarrow.", "Subtitles are not given to the model."),
)
