"""EgoSchema: what a person does over three minutes, seen through their own eyes; five choices.

Layout: the official repository: `questions.json` (a list; the choices are the fields "option 0" to "option 4") and
`subset_answers.json`, which maps the ids of the 500 questions with public answers to the index of the right choice; one
clip per question, named by its id. The answers of the other questions are kept by a server, which judges predictions.
"""

from __future__ import annotations

from collections.abc import Iterator

from crema_benchmarks.wordings import MULTIPLE_CHOICE
from crema_core.datasets.read import Place
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Line, Media
from crema_core.errors import DatasetError

QUESTIONS, ANSWERS = "questions.json", "subset_answers.json"
NUM_CHOICES = 5
VIDEO = Media(modality="video", path="videos/<question>.mp4")


def read(place: Place) -> Iterator[Line]:
    """Yield the questions whose answers are public."""
    answers = place.json(ANSWERS)
    questions = {entry["q_uid"]: entry for entry in place.entries(QUESTIONS)}
    for name, answer in answers.items():
        if name not in questions:
            raise DatasetError(
                f"'{name}' of {ANSWERS} is no question of {QUESTIONS}. This is not the official layout. Download both "
                "files again from the official page."
            )
        entry = questions[name]
        choices = [entry[f"option {number}"] for number in range(NUM_CHOICES)]
        if isinstance(answer, bool) or answer not in range(NUM_CHOICES):
            raise DatasetError(
                f"The answer of '{name}' in {ANSWERS} is {answer!r}, not a number from 0 to {NUM_CHOICES - 1}. This is "
                "not the official layout. Download the file again from the official page."
            )
        yield {
            "id": name,
            "question": entry["question"],
            "answer": choices[answer],
            "choices": choices,
            "video": VIDEO.of(place.split, question=name),
        }


SPEC = DatasetSpec(
    name="egoschema",
    summary="Questions about three minutes of a person's own view, five choices; the 500 with public answers.",
    source="https://github.com/egoschema/EgoSchema",
    license="Ego4D license, to be signed for the videos",
    splits=("subset",),
    files=(AnnotationFile(path=QUESTIONS), AnnotationFile(path=ANSWERS)),
    media=(VIDEO,),
    read=read,
    wording=MULTIPLE_CHOICE,
    notes=("Only the subset of 500 questions has public answers; the other 4,531 are judged by the authors' server.",),
)
