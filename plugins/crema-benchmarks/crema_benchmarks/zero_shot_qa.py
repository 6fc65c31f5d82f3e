"""MSVD-QA, MSRVTT-QA, TGIF-QA (frame questions) and ActivityNet-QA, as Video-LLaVA prepares them and MERV uses them.

Layout of each: `test_q.json` and `test_a.json`, joined by `question_id`, and a folder of clips whose ending differs
from clip to clip. The types are the numbers of the release; ActivityNet-QA documents its own, they become words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from crema_benchmarks.media import first
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
ACTIVITYNET_TYPES = (
    "motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number", "other",
)  # fmt: skip


def _reader(media: Media, types: tuple[str, ...] = ()) -> Callable[[Place], Iterator[Line]]:
    def read(place: Place) -> Iterator[Line]:
        answers = {entry["question_id"]: entry for entry in place.entries("test_a.json")}
        for entry in place.entries("test_q.json"):
            answer = answers.get(entry["question_id"])
            if answer is None:
                raise entry.wrong("question_id", "without an answer in test_a.json")
            kind = answer.get("type", "")
            stem = media.of(place.split, video=entry["video_name"]).removesuffix(".mp4")
            yield {
                "id": str(entry["question_id"]),
                "question": entry["question"],
                "answer": str(answer["answer"]),
                "type": types[int(kind)] if types else str(kind),
                "video": first(place, stem, SUFFIXES),
            }

    return read


def _spec(name: str, title: str, clips: str, source: str, types: tuple[str, ...] = ()) -> DatasetSpec:
    media = Media(modality="video", path=clips)
    return DatasetSpec(
        name=name,
        summary=f"{title}, open-ended with short answers.",
        source=source,
        license="research",
        splits=("test",),
        files=(AnnotationFile(path="test_q.json"), AnnotationFile(path="test_a.json")),
        media=(media,),
        read=_reader(media, types),
        notes=("MERV lets a GPT model judge answers; here they must be equal after normalisation.",),
    )


MSVD_QA = _spec(
    "msvd-qa",
    "Questions about short clips",
    "videos/<video>.mp4",
    "https://github.com/xudejing/video-question-answering",
)
MSRVTT_QA = _spec(
    "msrvtt-qa", "Questions about web clips", "videos/all/<video>.mp4",
    "https://github.com/xudejing/video-question-answering",
)  # fmt: skip
TGIF_QA = _spec(
    "tgif-qa", "Frame questions about animated pictures", "mp4/<video>.mp4", "https://github.com/YunseokJANG/tgif-qa"
)
ACTIVITYNET_QA = _spec(
    "activitynet-qa", "Questions about long activity videos", "all_test/v_<video>.mp4",
    "https://github.com/MILVLG/activitynet-qa", ACTIVITYNET_TYPES,
)  # fmt: skip
