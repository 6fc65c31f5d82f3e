"""ThermalQA: what happened before, from the heat it left behind; built by the CREMA authors on Thermal-IM.

Layout: `thermalqa_train.json` and `thermalqa_val.json` of the authors' hub page (Shoubin/CREMA, data/thermalqa), beside
the official `Thermal-IM/` folder. `start` is in seconds, as in Thermal-IM's own annotations and as the values show
(52.867); the authors' cutting script divides it by the frame rate once more, which looks at the wrong moment.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import join_span
from crema_benchmarks.wordings import single_word
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

QUESTIONS = "thermalqa_{split}.json"
VIDEO = Media(modality="video", path="Thermal-IM/<clip>/RGBD_RGB.mp4")
THERMAL = Media(modality="thermal", path="Thermal-IM/<clip>/RGBT_T.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split; each looks at its clip from `start` to the end."""
    for entry in place.entries(QUESTIONS.format(split=place.split)):
        start = entry["start"]
        if isinstance(start, bool) or not isinstance(start, int | float):
            raise entry.wrong("start", "not a number of seconds")
        yield {
            "id": str(entry["question_id"]),
            "question": entry["question"],
            "answer": entry["answer"],
            **{
                media.modality: join_span(media.of(place.split, clip=entry["video_id"]), float(start))
                for media in (VIDEO, THERMAL)
            },
        }


SPEC = DatasetSpec(
    name="thermalqa",
    summary="Which action happened before the video, from video and a thermal camera, open-ended.",
    source="https://huggingface.co/Shoubin/CREMA/tree/main/data/thermalqa",
    license="Thermal-IM: BSD-3-Clause; questions: see the hub page",
    splits=("train", "val"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=(VIDEO, THERMAL),
    read=read,
    wording=single_word("frames and thermal heatmap information"),
    notes=("'start' is taken as seconds; the authors' script takes it as a frame number.",),
)
