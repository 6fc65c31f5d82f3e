"""SQA3D: questions of somebody standing in a scanned room.

Layout: `sqa_task.zip` of the official release (zenodo 7792397) and ScanNet's own tree of scans; a clip of each room
under `video/`, as CREMA's loader expects. Questions and answers lie in two files, joined by `question_id`. The type is
the question's first word, as SQA3D's own evaluation has it; the released CREMA code looks for the word anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.wordings import TABLE_12, single_word
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media, sources

FIRST_WORDS = ("What", "Is", "How", "Can", "Which")
QUESTIONS = "sqa_task/balanced/v1_balanced_questions_{split}_scannetv2.json"
ANSWERS = "sqa_task/balanced/v1_balanced_sqa_annotations_{split}_scannetv2.json"
VIDEO = Media(modality="video", path="video/<scene>.mp4", derived=True)
POINTS = Media(modality="pointcloud", path="scans/<scene>/<scene>_vh_clean_2.ply")
DEPTH = Media(modality="depth", path="depth/<scene>", derived=True)
NORMALS = Media(modality="normals", path="normals/<scene>", derived=True)
SCANS = (VIDEO, POINTS, DEPTH, NORMALS)


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split; the situation is put before the question, as the paper does."""
    split = place.split
    questions = {entry["question_id"]: entry for entry in place.entries(QUESTIONS.format(split=split), "questions")}
    for entry in place.entries(ANSWERS.format(split=split), "annotations"):
        asked = questions.get(entry["question_id"])
        if asked is None:
            raise entry.wrong("question_id", "not a question of the questions file")
        first, *others = [answer["answer"] for answer in entry["answers"]]
        yield {
            "id": str(entry["question_id"]),
            "question": f"{asked['situation'].rstrip(' .')}. Question: {asked['question']}",
            "answer": first,
            "answers": others or None,
            "type": first_word(asked["question"]),
            **sources(SCANS, split, scene=entry["scene_id"]),
        }


def first_word(question: str) -> str:
    """Return the type of a question: its first word, or "Others"."""
    word = question.split(maxsplit=1)[0].capitalize() if question.strip() else ""
    return word if word in FIRST_WORDS else "Others"


SPEC = DatasetSpec(
    name="sqa3d",
    summary="Situated questions in scanned rooms, open-ended.",
    source="https://github.com/SilongYong/SQA3D",
    license="annotations CC-BY-4.0; ScanNet scans under its signed terms of use",
    splits=("train", "val", "test"),
    files=(AnnotationFile(path=QUESTIONS), AnnotationFile(path=ANSWERS)),
    media=SCANS,
    read=read,
    wording=single_word(
        "frames and 3D Model information",
        source=f"{TABLE_12}; the situation precedes the question as in the released loader",
        question="{question}",
    ),
    scorer="em",
    measures=("em_refined",),
)
