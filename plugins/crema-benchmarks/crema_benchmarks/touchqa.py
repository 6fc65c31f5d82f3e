"""TouchQA: which material is touched, built by the CREMA authors on Touch and Go.

Layout: `touch_train.json` and `touch_val.json` of the authors' hub page (Shoubin/CREMA, data/touchqa), beside the
official `dataset/` folder of Touch and Go with one folder per recording. `start` and `end` are frame numbers of
`video.mp4`; the authors cut clips there, here the part is written into the path.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import frame_rate_hz, join_span
from crema_benchmarks.wordings import single_word
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

QUESTIONS = "touch_{split}.json"
VIDEO = Media(modality="video", path="dataset/<recording>/video.mp4")
TOUCH = Media(modality="touch", path="dataset/<recording>/gelsight.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split."""
    rates: dict[str, float | None] = {}
    for entry in place.entries(QUESTIONS.format(split=place.split)):
        recording = entry["video_id"]
        video = VIDEO.of(place.split, recording=recording)
        if recording not in rates:
            rates[recording] = frame_rate_hz(place, video)
        start_s, end_s = (_seconds(entry, key, rates[recording]) for key in ("start", "end"))
        yield {
            "id": str(entry["question_id"]),
            "question": entry["question"],
            "answer": entry["answer"],
            "video": join_span(video, start_s, end_s),
            "touch": join_span(TOUCH.of(place.split, recording=recording), start_s, end_s),
        }


def _seconds(entry: Entry, key: str, rate_hz: float | None) -> float | None:
    """Return the time of a frame; None where the clip is missing, which is reported later."""
    if not str(entry[key]).isdigit():
        raise entry.wrong(key, "not a frame number")
    return None if rate_hz is None else round(int(entry[key]) / rate_hz, 3)


SPEC = DatasetSpec(
    name="touchqa",
    summary="Which material a person touches, from video and a tactile sensor, open-ended.",
    source="https://huggingface.co/Shoubin/CREMA/tree/main/data/touchqa",
    license="Touch and Go: CC-BY; questions: see the hub page",
    splits=("train", "val"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=(VIDEO, TOUCH),
    read=read,
    wording=single_word("frames and touch map information"),
    notes=("The part of a recording is found with the frame rate of video.mp4, for both sensors.",),
)
