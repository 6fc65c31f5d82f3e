"""How the CREMA paper words the questions of its data sets (Table 12), and words after that pattern."""

from __future__ import annotations

from crema_core.datasets.spec import Wording

TABLE_12 = "CREMA Table 12"
AFTER_TABLE_12 = f"worded after the pattern of {TABLE_12}"
RELEASED_LOADER = "CREMA's released loader, questions without frames"

MULTIPLE_CHOICE = Wording(
    multiple_choice="Question: {question} {options} Considering the information presented in the frame, select the "
    "correct answer from the options.",
    source=TABLE_12,
)


def single_word(modalities: str, *, source: str = AFTER_TABLE_12, question: str = "Question: {question}") -> Wording:
    """Return the wording of questions answered freely.

    Args:
        modalities: what the answer is based on, as the paper names it: "frames and audio information".
        source: where the wording comes from.
        question: how the question itself is put.
    """
    asked = f"{question} Based on the {modalities}, answer the question using a single word or phrase."
    return Wording(open_ended=asked, source=source)
