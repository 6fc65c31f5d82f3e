"""ScanQA: questions about scanned rooms, with several accepted answers.

Layout: `qa/ScanQA_v1.0_{train,val}.json` of the official release beside ScanNet's tree of scans. The two test sets have
no public answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.sqa3d import SCANS, first_word
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, sources

QUESTIONS = "qa/ScanQA_v1.0_{split}.json"


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split; the first answer is trained on, all are accepted."""
    for entry in place.entries(QUESTIONS.format(split=place.split)):
        if not isinstance(entry["answers"], list) or not entry["answers"]:
            raise entry.wrong("answers", "not a list of answers")
        first, *others = entry["answers"]
        yield {
            "id": entry["question_id"],
            "question": entry["question"],
            "answer": first,
            "answers": others or None,
            "type": first_word(entry["question"]),
            **sources(SCANS, place.split, scene=entry["scene_id"]),
        }


SPEC = DatasetSpec(
    name="scanqa",
    summary="Questions about objects in scanned rooms, open-ended with several references.",
    source="https://github.com/ATR-DBI/ScanQA",
    license="CC BY-NC-SA 3.0; ScanNet scans under its signed terms of use",
    splits=("train", "val"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=SCANS,
    read=read,
    scorer="em",
    measures=("em_refined", "captions"),
)
