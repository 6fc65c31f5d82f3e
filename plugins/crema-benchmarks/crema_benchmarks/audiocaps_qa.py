"""AudioCaps-QA: questions about the sounds of AudioCaps, with which CREMA trains its audio adapter alone.

Layout: `audio_qa_final_train.csv` as X-InstructBLIP released it (columns `youtube_id`, `start_time`, `question` and
`answer`; the caption the question was made from is not read) and AudioCaps' clips of ten seconds, one folder a split,
named by video and start second. The yes-no questions that X-InstructBLIP's loader can make up from captions are not
part of the file, and not made here.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.media import first
from crema_benchmarks.wordings import RELEASED_LOADER, single_word
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

QUESTIONS = "audio_qa_final_{split}.csv"
SUFFIXES = (".flac", ".wav", ".mp3", ".m4a", ".mp4")
AUDIO = Media(modality="audio", path="audio/train/<clip>.flac")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split; a clip has several, so ids end in the number of the row."""
    for number, entry in enumerate(place.table(QUESTIONS.format(split=place.split)), start=1):
        clip = f"{entry['youtube_id']}_{_start_s(entry)}"
        stem = AUDIO.of(place.split, clip=clip).removesuffix(".flac")
        yield {
            "id": f"{clip}_{number}",
            "question": entry["question"],
            "answer": entry["answer"],
            "audio": first(place, stem, SUFFIXES),
        }


def _start_s(entry: Entry) -> int:
    try:
        return int(float(entry["start_time"]))
    except ValueError as error:
        raise entry.wrong("start_time", "not a second") from error


SPEC = DatasetSpec(
    name="audiocaps-qa",
    summary="Questions about everyday sounds, open-ended; CREMA's data for training its audio adapter alone.",
    source="https://github.com/salesforce/LAVIS/tree/main/projects/xinstructblip",
    license="questions: BSD-3-Clause of LAVIS; AudioCaps: MIT; sounds of YouTube",
    splits=("train",),
    files=(AnnotationFile(path=QUESTIONS),),
    media=(AUDIO,),
    read=read,
    wording=single_word("audio information", source=RELEASED_LOADER),
    notes=("The file was made for training and has no test split; judge the adapter on another data set.",),
)
