"""Texts of VideoChat2: conversations in training, questions at test, and what of them is learned.

Where a text and the visual tokens meet the text is cut in two pieces, which are tokenised apart and without special
tokens: up to and with the start tag, and from the end tag on. All tags and brackets are plain text to the tokenizer.

Shape letters: B samples, P tokens of an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from crema_core.errors import DataFileError, OptionsError

IGNORED = -100
VIDEO_INSTRUCTION = "Watch the video and answer the question."
IMAGE_INSTRUCTION = "Observe the image and answer the question."
SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)
"""What the benchmarks put before the video; ends with its new line."""
ANSWER_START = "Best option:("
TAGS = {"video": ("<Video>", "</Video>"), "image": ("<Image>", "</Image>")}
Kind = Literal["video", "image"]
_OPEN, _CLOSE = "[INST] ", " [/INST] "
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Turn(NamedTuple):
    """A question and its answer; an empty question asks nothing, as for captions."""

    question: str
    answer: str


class Conversation(NamedTuple):
    """Ids of a text of training."""

    before: tuple[int, ...]  # up to and with the start tag, no begin token
    after: tuple[int, ...]  # from the end tag on
    labels: tuple[int, ...]  # as `after`, `IGNORED` where nothing is learned


def frames_message(indices: Sequence[int], fps: float) -> str:
    """Return what a prompt may say of a clip's frames, with a blank at either end.

    Example:
        >>> frames_message([2, 7], 10.0)
        ' The video contains 2 frames sampled at 0.2, 0.7 seconds. '
    """
    seconds = ", ".join(str(round(index / fps, 1)) for index in indices)
    return f" The video contains {len(indices)} frames sampled at {seconds} seconds. "


def training_text(turns: Sequence[Turn], *, instruction: str = "", kind: Kind = "video", message: str = "") -> str:
    """Return a conversation as stage 3 writes it.

    Args:
        turns: questions with their answers.
        instruction: before everything; "" leaves nothing.
        kind: of the visual tokens.
        message: directly after the end tag, see `frames_message`.

    Example:
        >>> training_text([Turn("what moves ?", "a ball")], instruction="watch .")
        'watch . [INST] <Video></Video> [/INST] [INST] what moves ? [/INST] a ball </s>'
    """
    text = f"{instruction.strip()} [INST] {''.join(TAGS[kind])}{message.rstrip()} [/INST]"
    for turn in turns:
        asked = f" [INST] {turn.question.strip()} [/INST]" if turn.question.strip() else ""
        text += f"{asked} {turn.answer.strip()} </s>"
    return text.strip()


def tokenize_conversation(tokenizer: PreTrainedTokenizerBase, text: str) -> Conversation:
    """Cut a conversation at its end tag, and label its answers with the `</s>` behind each.

    Args:
        tokenizer: of the language model.
        text: see `training_text`.

    Raises:
        OptionsError: for a text without end tag, or one whose pieces have other tokens than the whole, where released
            training stops too.
    """
    end = next((tags[1] for tags in TAGS.values() if tags[1] in text), None)
    if end is None:
        raise OptionsError(
            f"The conversation {text[:60]!r} has no place for visual tokens. Accepted: one with <Video></Video> or "
            "<Image></Image>. Write it with training_text(...)."
        )
    head, _, tail = text.partition(end)
    before, after = _ids(tokenizer, head), _ids(tokenizer, end + tail)
    learned = _learned(tokenizer, end + tail)
    if len(learned) != len(after):
        raise OptionsError(
            f"The pieces of the conversation {text[:60]!r} have {len(learned)} tokens, the whole has {len(after)}, so "
            "it is not known which are answers. Accepted: a tokenizer that splits at [INST] and [/INST], as Mistral's, "
            "and texts without these brackets of their own. Remove them from questions and answers."
        )
    labels = tuple(token if chosen else IGNORED for token, chosen in zip(after, learned, strict=True))
    return Conversation(tuple(before), tuple(after), labels)


def _learned(tokenizer: PreTrainedTokenizerBase, text: str) -> list[bool]:
    """Return for every token whether it is an answer's, counted piece by piece."""
    first, *rest = text.split(_CLOSE)
    learned = [False] * len(_ids(tokenizer, (first + (_CLOSE if rest else "")).rstrip()))
    for number, piece in enumerate(rest):
        last = number == len(rest) - 1
        whole = len(_ids(tokenizer, piece.rstrip() if last else (piece + _CLOSE).rstrip()))
        answer = whole if last else len(_ids(tokenizer, piece.split(_OPEN)[0].rstrip()))
        learned += [True] * answer + [False] * (whole - answer)
    return learned


def question_text(
    question: str, *, system: str = "", answer_start: str = "", kind: Kind = "video", repeat_system: bool = False
) -> tuple[str, str]:
    """Return the two pieces of a question at test, around the visual tokens.

    Args:
        question: see also `choice_question`.
        system: before everything, joined without a blank: released ones end with a new line.
        answer_start: what the answer begins with, `ANSWER_START` for choices.
        kind: of the visual tokens.
        repeat_system: put the system text before the question too (Video-MME).

    Example:
        >>> question_text("what moves ?", system="watch .\\n")
        ('watch .\\n[INST] <Video>', '</Video> [/INST] [INST] what moves ? [/INST]')
    """
    start, end = TAGS[kind]
    asked = (system if repeat_system else "") + question
    tail = f"{end} [/INST] [INST] {asked} [/INST]" + (f" {answer_start}" if answer_start else "")
    return f"{system}[INST] {start}", tail


def choice_question(question: str, choices: Sequence[str]) -> str:
    """Return a multiple-choice question as the benchmarks ask it.

    Raises:
        DataFileError: for more choices than letters.

    Example:
        >>> choice_question("what moves ?", ["ball", "cat"])
        'Question: what moves ?\\nOptions:\\n(A) ball\\n(B) cat\\nOnly give the best option.'
    """
    if len(choices) > len(LETTERS):
        raise DataFileError(
            f"A question has {len(choices)} choices, and {len(LETTERS)} letters tell them apart. Give fewer choices."
        )
    options = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))
    return f"Question: {question}\nOptions:\n{options}\nOnly give the best option."


def chosen_letter(answer: str) -> str | None:
    """Return the option an answer to `ANSWER_START` names, None where it names none.

    Example:
        >>> chosen_letter("B) cat")
        'B'
    """
    first = answer.split("\n")[0].strip().lstrip("(")
    return first[0] if first and first[0] in LETTERS else None


def read_instructions(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int = 512,
    padding: Literal["left", "right"] = "left",
) -> tuple[Tensor, Tensor]:
    """Tokenise instructions for the Q-Former, `[CLS] ... [SEP]`.

    Args:
        tokenizer: bert-base-uncased.
        texts: B of them; an empty one is `[CLS] [SEP]`.
        max_tokens: a longer one loses its oldest words, not its special tokens.
        padding: "left" as released, where positions count the padding and so depend on the other instructions of the
            batch; "right" makes them independent of it. Alone, or all of one length, both are the same.

    Returns:
        ids `(B, P)` int64 and mask `(B, P)` int64.
    """
    rows = []
    for text in texts:
        own = list(tokenizer(text, add_special_tokens=True)["input_ids"])
        rows.append(own if len(own) <= max_tokens else own[:1] + own[len(own) - max_tokens + 1 :])
    longest = max(map(len, rows))
    pad = int(tokenizer.pad_token_id or 0)
    ids, mask = torch.full((len(rows), longest), pad), torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, own in enumerate(rows):
        place = slice(longest - len(own), None) if padding == "left" else slice(len(own))
        ids[row, place], mask[row, place] = torch.tensor(own), 1
    return ids, mask


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
