"""Ego-Exo4D demonstrator proficiency: how skilled is the person, of four levels.

Layout: `annotations/proficiency_demonstrator_{train,val}.json` of the official download; every annotation names its
clips under `video_paths` (`ego`, `exo1`, ...), relative to the download. The worn camera is the clip used here.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

QUESTIONS = "annotations/proficiency_demonstrator_{split}.json"
QUESTION = "How skilled is the person at this activity?"
LEVELS = ["Novice", "Early Expert", "Intermediate Expert", "Late Expert"]
VIDEO = Media(modality="video", path="takes/<take>/frame_aligned_videos/<camera>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the takes of one split; the type is the activity."""
    for entry in place.entries(QUESTIONS.format(split=place.split), "annotations"):
        if entry["proficiency_score"] not in LEVELS:
            raise entry.wrong("proficiency_score", f"none of {', '.join(LEVELS)}")
        yield {
            "id": entry["take_uid"],
            "question": QUESTION,
            "answer": entry["proficiency_score"],
            "choices": LEVELS,
            "type": entry["scenario_name"],
            "video": Entry(entry["video_paths"], entry.where)["ego"],
        }


SPEC = DatasetSpec(
    name="egoexo4d-proficiency",
    summary="Skill of a person seen from a worn camera, four levels.",
    source="https://docs.ego-exo4d-data.org",
    license="signed Ego-Exo4D licence",
    splits=("train", "val"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=(VIDEO,),
    read=read,
    notes=(
        "The data set has labels, not questions; the question's wording is ours.",
        "The cameras beside the person (exo1, ...) are not used.",
    ),
)
