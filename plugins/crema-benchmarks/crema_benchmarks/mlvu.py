"""MLVU, the multiple-choice tasks of its development set, on long videos.

Layout: the official hub data set (MLVU/MVLU), folder `MLVU`: `json/<task>.json` and `video/<task>/`. The two tasks with
free answers (8_sub_scene, 9_summary) are judged by another model and left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import seen_and_heard
from crema_benchmarks.mvbench import task_lines
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, sources

TASKS = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
MEDIA = seen_and_heard("video/<task>/<video>")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of all tasks."""
    for task, entry, line in task_lines(place, TASKS):
        yield {**line, **sources(MEDIA, place.split, task=task, video=entry["video"])}


SPEC = DatasetSpec(
    name="mlvu",
    summary="Seven tasks on videos of minutes to hours; the total is the mean of the tasks.",
    source="https://huggingface.co/datasets/MLVU/MVLU",
    license="CC-BY-NC-SA-4.0",
    splits=("dev",),
    files=tuple(AnnotationFile(path=f"json/{task}.json") for task in TASKS),
    media=MEDIA,
    read=read,
    average="types",
)
