"""TVQA: questions about scenes of six TV shows, five choices.

Layout: `tvqa_qa_release/tvqa_{train,val}.jsonl` and the official pictures at three frames a second,
`frames_hq/<show>_frames/<vid_name>/00001.jpg`; clip names of The Big Bang Theory carry no show. `ts` is the part of the
clip that answers, "1.21-8.49" in seconds, or "nan-nan". The public test has no answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from crema_benchmarks.media import frames_between
from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.datasets.read import Entry, Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

QUESTIONS = "tvqa_qa_release/tvqa_{split}.jsonl"
NUM_CHOICES, FRAME_RATE_HZ = 5, 3.0
VIDEO = Media(modality="video", path="frames_hq/<show>_frames/<clip>")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions of one split; the type is the show."""
    for entry in place.json_lines(QUESTIONS.format(split=place.split)):
        choices = [entry[f"a{number}"] for number in range(NUM_CHOICES)]
        if entry["answer_idx"] not in range(NUM_CHOICES):
            raise entry.wrong("answer_idx", f"not a number from 0 to {NUM_CHOICES - 1}")
        clip = entry["vid_name"]
        show = "bbt" if re.match(r"s\d+e\d+_", clip) else clip.partition("_")[0]
        start_s, end_s = _part(entry)
        folder = VIDEO.of(place.split, show=show, clip=clip)
        yield {
            "id": str(entry["qid"]),
            "question": entry["q"],
            "answer": choices[entry["answer_idx"]],
            "choices": choices,
            "type": entry["show_name"],
            "video": frames_between(place, folder, start_s, end_s, rate_hz=FRAME_RATE_HZ),
        }


def _part(entry: Entry) -> tuple[float | None, float | None]:
    try:
        start_s, end_s = (float(text) for text in entry["ts"].split("-"))
    except (ValueError, AttributeError) as error:
        raise entry.wrong("ts", "not 'start-end' in seconds") from error
    return (None, None) if math.isnan(start_s) or math.isnan(end_s) else (start_s, end_s)


SPEC = DatasetSpec(
    name="tvqa",
    summary="Questions about scenes of TV shows, five choices, without subtitles.",
    source="https://github.com/jayleicn/TVQA",
    license="code MIT; data by agreement",
    splits=("train", "val"),
    files=(AnnotationFile(path=QUESTIONS),),
    media=(VIDEO,),
    read=read,
    wording=MULTIPLE_CHOICE,
    notes=("Subtitles are not given to the model.",),
)
