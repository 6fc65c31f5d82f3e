"""MVBench: twenty temporal tasks of about 200 questions each.

Layout: the official hub data set (OpenGVLab/MVBench): `json/<task>.json` and `video/` with one tree per source. The
table of folders is the official one of VideoChat2's evaluation; tasks marked there give the part of the clip that
counts, and one task has pictures at three frames a second instead of clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crema_benchmarks.media import frames_between, join_span
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

FOLDERS = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
IN_PARTS = ("action_sequence", "action_prediction", "object_interaction", "action_localization")
IN_FRAMES, FRAME_RATE_HZ = "episodic_reasoning", 3.0
VIDEO = Media(modality="video", path="video/<folder>/<video>")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of all tasks."""
    for task, entry, line in task_lines(place, FOLDERS):
        path = VIDEO.of(place.split, folder=FOLDERS[task], video=entry["video"])
        yield {**line, "video": _clip(place, entry, task, path)}


def task_lines(place: Place, tasks: Iterable[str]) -> Iterator[tuple[str, Entry, Line]]:
    """Yield task, entry and line without sources of every question in `json/<task>.json`; the type is the task."""
    for task in tasks:
        for number, entry in enumerate(place.entries(f"json/{task}.json"), start=1):
            line = {
                "id": f"{task}_{number}",
                "question": entry["question"],
                "answer": entry["answer"],
                "choices": entry["candidates"],
                "type": task,
            }
            yield task, entry, line


def _clip(place: Place, entry: Entry, task: str, path: str) -> str | list[str]:
    if task == IN_FRAMES:
        return frames_between(place, path, float(entry["start"]), float(entry["end"]), rate_hz=FRAME_RATE_HZ)
    if task in IN_PARTS:
        return join_span(path, float(entry["start"]), float(entry["end"]))
    return path


SPEC = DatasetSpec(
    name="mvbench",
    summary="Twenty tasks that need more than one frame, three to five choices.",
    source="https://huggingface.co/datasets/OpenGVLab/MVBench",
    license="annotations MIT; videos under the terms of their sources",
    splits=("test",),
    files=tuple(AnnotationFile(path=f"json/{task}.json") for task in FOLDERS),
    media=(VIDEO,),
    read=read,
    average="types",
)
