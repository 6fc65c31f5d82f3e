"""How a question, with or without choices, is put to the language model and what counts as its answer.

The multiple-choice wording is the paper's (Table 12): options are lettered, the target is "Option A".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crema_core.errors import DataFileError
from crema_core.model.language import LETTERS

_RELEASED_DROPS = re.compile(r'[.!"()*#:;~]')
_RELEASED_WORDS = 50


class PromptTemplate(BaseModel):
    """Wording of questions, saved with the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    open_ended: str = Field(default="{question}", description="question without choices; '{question}' is replaced")
    multiple_choice: str = Field(
        default="Question: {question} {options} Considering the information presented in the frame, select the "
        "correct answer from the options.",
        description="question with choices; '{question}' and '{options}' are replaced",
    )
    question_text: Literal["as_written", "released"] = Field(
        default="as_written",
        description="released: lower case, without .!\"()*#:;~ and cut to 50 words, as the released code's loaders of "
        "SQA3D and MUSIC-AVQA do",
    )
    choice_scoring: Literal["letters", "likelihood", "released"] = Field(
        default="letters",
        description="letters: 'Option A' is scored where its letter stands; likelihood: each choice's own text is "
        "scored; released: letters at the second greedily generated token, as the released code does",
    )
    qformer_input: Literal["question", "instruction", "queries"] = Field(
        default="question",
        description="question: a Q-Former that reads text (InstructBLIP's) reads the question, as it was trained; "
        "instruction: it reads the setting `instruction`, as VideoChat2's does; queries: it reads features alone, as "
        "BLIP-2's always does",
    )
    instruction: str = Field(
        default="",
        description="text before the modalities, the same for all questions, for backbones whose prompt has a place "
        "for one (VideoChat2); with qformer_input=instruction a Q-Former that reads text reads it",
    )
    chat: bool = Field(
        default=True, description="ask another language model in its chat template, where its tokenizer has one"
    )
    placement: Literal["frames", "block"] = Field(
        default="frames",
        description="of tokens of further modalities in the prompt of a vision-language model: frames: behind each "
        "frame, where its own text keeps frames apart and they come frame by frame; block: behind all pictures",
    )
    max_question_tokens: int | None = Field(
        default=None, ge=2, description="cut longer questions at their end (77 in the released code); None: never"
    )

    def render(self, question: str, choices: Sequence[str] | None = None) -> str:
        """Return the text given to the language model.

        Raises:
            DataFileError: for more choices than there are letters, where letters are scored.
        """
        if self.question_text == "released":
            question = released_question(question)
        if choices is None or self.choice_scoring == "likelihood":
            return self.open_ended.format(question=question)
        require_letters(len(choices))
        options = " ".join(f"Option {letter}: {text}" for letter, text in zip(LETTERS, choices, strict=False))
        return self.multiple_choice.format(question=question, options=options)

    def target(self, answer: str, choices: Sequence[str] | None = None) -> str:
        """Return the text the language model is trained to answer.

        Raises:
            DataFileError: when the answer is not one of the choices, or as `render`.
        """
        if choices is None or self.choice_scoring == "likelihood":
            return answer
        if answer not in choices:
            raise DataFileError(
                f"The answer {answer!r} is not among the choices {list(choices)!r}. The answer must be written exactly "
                "as one of them. Correct the line."
            )
        require_letters(len(choices))
        return f"Option {LETTERS[list(choices).index(answer)]}"

    @property
    def most_choices(self) -> int | None:
        """Largest number of choices a question may have; None: any, because letters play no part."""
        return None if self.choice_scoring == "likelihood" else len(LETTERS)


def require_letters(num_choices: int) -> None:
    """Raise when there are more choices than letters.

    Raises:
        DataFileError: naming both numbers.
    """
    if num_choices > len(LETTERS):
        raise DataFileError(
            f"A question has {num_choices} choices, and choice_scoring='letters' tells {len(LETTERS)} apart, one "
            "letter each. Give fewer choices, or build the model with template={'choice_scoring': 'likelihood'}, which "
            "scores each choice's own text."
        )


def released_question(question: str) -> str:
    """Return a question as the released code's text processor leaves it.

    Example:
        >>> released_question("What is on the (big) chair? #3: ")
        'what is on the big chair? 3'
    """
    kept = _RELEASED_DROPS.sub("", question.lower()).rstrip(" ")
    return " ".join(kept.split(" ")[:_RELEASED_WORDS])
