"""Perception Test, multiple-choice questions with three options.

Layout: the official annotations, one object per video with `metadata` and a list `mc_question`, the official
`cut_frame_mapping` (the frame where a video must be cut because the rest gives the answer away, below one for none) and
the videos in one folder. The cut frame is taken as the first one that may not be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crema_benchmarks.media import join_span, seen_and_heard
from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line

QUESTIONS, CUTS = "mc_question_{split}.json", "cut_frame_mapping_{split}.json"
MEDIA = seen_and_heard("videos/<video>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split."""
    path = QUESTIONS.format(split=place.split)
    cuts: dict[str, Any] = place.json(CUTS.format(split=place.split))
    for video, content in place.json(path).items():
        own = Entry(content, f"'{video}' of {path}")
        frame = int(cuts.get(video, -1))
        end_s = frame / float(Entry(own["metadata"], own.where)["frame_rate"]) if frame > 0 else None
        for values in own["mc_question"]:
            asked = Entry(values, f"A question about '{video}' in {path}")
            yield {
                "id": f"{video}_{asked['id']}",
                "question": asked["question"],
                "answer": asked.pick("options", "answer_id"),
                "choices": asked["options"],
                "type": asked["area"],
                **{media.modality: join_span(media.of(place.split, video=video), None, end_s) for media in MEDIA},
            }


SPEC = DatasetSpec(
    name="perception-test",
    summary="Memory, abstraction, physics and semantics in staged videos, three choices.",
    source="https://github.com/google-deepmind/perception_test",
    license="CC-BY-4.0",
    splits=("train", "valid"),
    files=(AnnotationFile(path=QUESTIONS), AnnotationFile(path=CUTS)),
    media=MEDIA,
    read=read,
    wording=MULTIPLE_CHOICE,
)
