"""NExT-QA, multiple choice: why and when, in daily videos.

Layout: `dataset/nextqa` of the official repository (CSV with a header; the answer is an index) and the videos in
VidOR's folders, which `map_vid_vidorID.json` names. As in the official evaluation, `TP` (before and after) counts as
`TN`; C, T and D pool causal, temporal and descriptive types.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, Column, DatasetSpec, Line, Media, sources

QUESTIONS, FOLDERS = "dataset/nextqa/{split}.csv", "dataset/nextqa/map_vid_vidorID.json"
NUM_CHOICES = 5
VIDEO = Media(modality="video", path="NExTVideo/<folder>.mp4")
MAPS = tuple(Media(modality=name, path=f"{name}/<video>", derived=True) for name in ("flow", "depth", "normals"))


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split."""
    folders = place.json(FOLDERS)
    for entry in place.table(QUESTIONS.format(split=place.split)):
        video, kind = entry["video"], entry["type"]
        if video not in folders:
            raise entry.wrong("video", f"not in {FOLDERS}")
        choices = [entry[f"a{number}"] for number in range(NUM_CHOICES)]
        if entry["answer"] not in map(str, range(NUM_CHOICES)):
            raise entry.wrong("answer", f"not a number from 0 to {NUM_CHOICES - 1}")
        yield {
            "id": f"{video}_{entry['qid']}",
            "question": entry["question"],
            "answer": choices[int(entry["answer"])],
            "choices": choices,
            "type": "TN" if kind == "TP" else kind,
            "video": VIDEO.of(place.split, folder=folders[video]),
            **sources(MAPS, place.split, video=video),
        }


SPEC = DatasetSpec(
    name="nextqa",
    summary="Causal, temporal and descriptive questions about daily videos, five choices.",
    source="https://github.com/doc-doc/NExT-QA",
    license="annotations MIT; videos of VidOR (YFCC100M)",
    splits=("train", "val", "test"),
    files=(AnnotationFile(path=QUESTIONS), AnnotationFile(path=FOLDERS)),
    media=(VIDEO, *MAPS),
    read=read,
    wording=MULTIPLE_CHOICE,
    columns=(
        Column(name="Causal", types=("CW", "CH")),
        Column(name="Temporal", types=("TN", "TC")),
        Column(name="Descriptive", types=("DC", "DL", "DO")),
    ),
)
