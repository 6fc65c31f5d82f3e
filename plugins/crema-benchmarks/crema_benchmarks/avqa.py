"""AVQA: questions about everyday sounds and sights, four choices.

Layout: `train_qa.json` and `val_qa.json` of the official page (the answer is an index) and the clips, ten seconds of
VGGSound videos, by their `video_name` in one folder.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import seen_and_heard
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, sources

QUESTIONS = "{split}_qa.json"
MEDIA = seen_and_heard("videos/<video>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split; the type states what is needed: View, Sound or Both."""
    for entry in place.entries(QUESTIONS.format(split=place.split)):
        yield {
            "id": str(entry["id"]),
            "question": entry["question_text"],
            "answer": entry.pick("multi_choice", "answer"),
            "choices": entry["multi_choice"],
            "type": entry["question_relation"],
            **sources(MEDIA, place.split, video=entry["video_name"]),
        }


SPEC = DatasetSpec(
    name="avqa",
    summary="Audio-visual questions about everyday clips, four choices.",
    source="https://mn.cs.tsinghua.edu.cn/avqa",
    license="no licence file in the official repository",
    splits=("train", "val"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=MEDIA,
    read=read,
)
