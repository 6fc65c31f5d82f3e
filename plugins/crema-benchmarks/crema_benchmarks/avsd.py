"""AVSD: a dialogue about a clip of Charades; every turn is answered knowing the turns before it.

Layout: training and validation dialogues of video-dialog.com (an object by video, `data` a list of turns), the DSTC7
test as PAVE uses it (`dialogs`, whose last turn is scored), and Charades scaled to 480 lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crema_benchmarks.media import seen_and_heard
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, sources

TEST = "mock_test_set4DSTC10-AVSD_from_DSTC7_singref.json"
MEDIA = seen_and_heard("Charades_v1_480/<video>.mp4", test="Charades_vu17_test_480/<video>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield one line per turn, of the test only each dialogue's last."""
    if place.split == "test":
        for dialog in place.entries(TEST, "dialogs"):
            yield _line(place, dialog["image_id"], dialog["dialog"], len(dialog["dialog"]) - 1, dialog.where)
        return
    path = f"avsd_{place.split}.json"
    for video, content in place.json(path).items():
        own = Entry(content, f"'{video}' of {path}")
        for number in range(len(own["data"])):
            yield _line(place, video, own["data"], number, own.where)


def _line(place: Place, video: str, turns: list[dict[str, Any]], number: int, where: str) -> Line:
    entries = [Entry(turn, f"A turn of {where}") for turn in turns[: number + 1]]
    before = [f"Question: {turn['question']} Answer: {turn['answer']}" for turn in entries[:-1]]
    return {
        "id": f"{video}_{number + 1}",
        "question": " ".join([*before, f"Question: {entries[-1]['question']}"]),
        "answer": entries[-1]["answer"],
        **sources(MEDIA, place.split, video=video),
    }


SPEC = DatasetSpec(
    name="avsd",
    summary="Audio-visual scene-aware dialogue on Charades, sentences scored as captions.",
    source="https://video-dialog.com",
    license="Charades: non-commercial",
    splits=("train", "val", "test"),
    files=(
        AnnotationFile(path="avsd_train.json", split="train"),
        AnnotationFile(path="avsd_val.json", split="val"),
        AnnotationFile(path=TEST, split="test"),
    ),
    media=MEDIA,
    read=read,
    measures=("captions",),
    notes=("PAVE trains on two conversations of five turns per video; here every turn is a line.",),
)
