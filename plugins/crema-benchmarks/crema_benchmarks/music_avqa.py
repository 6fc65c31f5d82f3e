"""MUSIC-AVQA: what is played, where and when, in clips of musical performances.

Layout: `data/json_update` of the official repository, the version CREMA uses; the clips of the official download in one
folder, `videos/`. Questions are templates whose `<...>` are filled in order; `type` and `templ_values` are JSON lists
inside JSON strings; the answer's key is misspelt in the release ("anser").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from crema_benchmarks.media import seen_and_heard
from crema_benchmarks.wordings import TABLE_12, single_word
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, Column, DatasetSpec, Line, Media, sources

QUESTIONS = "data/json_update/avqa-{split}.json"
MAPS = tuple(Media(modality=name, path=f"{name}/<video>", derived=True) for name in ("flow", "depth", "normals"))
MEDIA = (*seen_and_heard("videos/<video>.mp4"), *MAPS)
TYPES = {
    "Audio": ("Counting", "Comparative"),
    "Visual": ("Counting", "Location"),
    "Audio-Visual": ("Existential", "Location", "Counting", "Comparative", "Temporal"),
}


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split."""
    for entry in place.entries(QUESTIONS.format(split=place.split)):
        yield {
            "id": str(entry["question_id"]),
            "question": _filled(entry),
            "answer": entry["anser"].replace("_", " "),
            "type": "/".join(_list(entry, "type")),
            **sources(MEDIA, place.split, video=entry["video_id"]),
        }


def _filled(entry: Entry) -> str:
    values = iter(_list(entry, "templ_values"))
    try:
        return re.sub(r"<[^<>]+>", lambda _: next(values), entry["question_content"])
    except StopIteration as error:
        raise entry.wrong("templ_values", "fewer values than the question has places") from error


def _list(entry: Entry, key: str) -> list[str]:
    try:
        values = json.loads(entry[key])
    except (json.JSONDecodeError, TypeError) as error:
        raise entry.wrong(key, "not a list written as text") from error
    return [str(value) for value in values]


SPEC = DatasetSpec(
    name="music-avqa",
    summary="Audio-visual questions about musical performances, open-ended with 42 answers.",
    source="https://github.com/GeWu-Lab/MUSIC-AVQA",
    license="MIT",
    splits=("train", "val", "test"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=MEDIA,
    read=read,
    wording=single_word("frames and audio information", source=TABLE_12),
    columns=tuple(Column(name=kind, types=tuple(f"{kind}/{own}" for own in owns)) for kind, owns in TYPES.items()),
)
