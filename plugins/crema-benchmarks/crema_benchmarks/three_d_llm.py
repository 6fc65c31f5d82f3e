"""3D-LLM's questions about scanned rooms, with which CREMA trains its 3D adapter alone.

Layout: `data_part2_scene_v3.json` of the official release (a list with `scene_id`, `question` and `answers`), the
release's map from its scene numbers to ScanNet's names, and ScanNet's own tree of scans. Rooms of other scans (HM3D)
have no name in the map; their questions are left out, and so are entries without an answer. A `scene_id` that is a
ScanNet name already, as in the release's fine-tuning files, is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.sqa3d import POINTS
from crema_benchmarks.wordings import RELEASED_LOADER
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Wording

QUESTIONS, SCENES = "data_part2_scene_v3.json", "final_scene_map_dict_scan_v3.json"


def read(place: Place) -> Iterator[Line]:
    """Yield the questions about ScanNet's rooms; the first answer is trained on, all are accepted."""
    names = place.json(SCENES)
    for number, entry in enumerate(place.entries(QUESTIONS), start=1):
        if not isinstance(entry["answers"], list):
            raise entry.wrong("answers", "not a list of answers")
        given = str(entry["scene_id"])
        scene = given if given.startswith("scene") else names.get(given)
        answers = [answer for answer in entry["answers"] if answer.strip()]
        if scene is None or not answers:
            continue
        yield {
            "id": str(number),
            "question": entry["question"],
            "answer": answers[0],
            "answers": answers[1:] or None,
            "pointcloud": POINTS.of(place.split, scene=scene),
        }


SPEC = DatasetSpec(
    name="three-d-llm",
    summary="Questions, tasks and dialogues about scanned rooms, open-ended; CREMA's data for its 3D adapter alone.",
    source="https://github.com/UMass-Foundation-Model/3D-LLM",
    license="annotations MIT; ScanNet scans under its signed terms of use",
    splits=("train",),
    files=(AnnotationFile(path=QUESTIONS), AnnotationFile(path=SCENES)),
    media=(POINTS,),
    read=read,
    wording=Wording(
        open_ended="Question: {question} Based on 3D Model information, answer the question.", source=RELEASED_LOADER
    ),
    scorer="em",
    measures=("em_refined",),
    notes=(
        "Questions about rooms that ScanNet does not have are left out.",
        "Dialogues keep the words that mark their speakers, as the release has them.",
    ),
)
