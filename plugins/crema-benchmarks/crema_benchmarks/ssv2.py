"""Something-Something v2 as multiple choice, the way MERV describes it: the right class among four random others.

Layout: the official annotations (`labels`: class to number; `validation`: id, label and template with objects in
brackets) and the official folder of clips. MERV published no question file; the other choices and their order are drawn
here from each clip's id, so that every run has the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.data.order import derive_seed
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media

LABELS, CLIPS = "something-something-v2-labels.json", "something-something-v2-{split}.json"
QUESTION = "How is the object in the video being interacted with?"
NUM_CHOICES = 5
VIDEO = Media(modality="video", path="20bn-something-something-v2/<clip>.webm")


def read(place: Place) -> Iterator[Line]:
    """Yield the clips of one split."""
    classes = sorted(place.json(LABELS))
    for entry in place.entries(CLIPS.format(split=place.split)):
        answer = entry["template"].replace("[", "").replace("]", "")
        if answer not in classes:
            raise entry.wrong("template", f"no class of {LABELS}")
        draw = random.Random(derive_seed("ssv2", entry["id"]))
        choices = [answer, *draw.sample([name for name in classes if name != answer], NUM_CHOICES - 1)]
        draw.shuffle(choices)
        yield {
            "id": entry["id"],
            "question": QUESTION,
            "answer": answer,
            "choices": choices,
            "video": VIDEO.of(place.split, clip=entry["id"]),
        }


SPEC = DatasetSpec(
    name="ssv2-mcq",
    summary="What is done with an object, five of 174 classes.",
    source="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
    license="Qualcomm, non-commercial",
    splits=("train", "validation"),
    files=(AnnotationFile(path=LABELS), AnnotationFile(path=CLIPS)),
    media=(VIDEO,),
    read=read,
    wording=MULTIPLE_CHOICE,
    notes=(
        "The wrong choices are drawn anew, so numbers are not MERV's to the question.",
        "MERV's temporal subset of twelve classes is not included.",
    ),
)
