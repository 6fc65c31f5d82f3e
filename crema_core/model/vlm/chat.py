"""The text around pictures, question and answer, as the chat template of a vision-language model writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.errors import OptionsError
from crema_core.model.chat_format import (
    ANSWER,
    QUESTION,
    ChatFormat,
    chat_template_format,
    override_chat_format,
    render_chat,
)


@dataclass(frozen=True)
class VisualChat:
    """The text of one turn.

    Attributes:
        before: text before the question, where there are no pictures.
        seen: text before pictures or clip.
        picture, clip: text that stands for one; of a family without clips None.
        gap: text between them and the question, most often blanks.
        after: text between question and answer.
        answer: how an answer is tokenised and where it ends.
    """

    before: str
    seen: str
    picture: str
    clip: str | None
    gap: str
    after: str
    answer: ChatFormat


def visual_chat(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    marks: tuple[str, str | None],
    plain: tuple[str, str],
    chat: bool,
) -> VisualChat:
    """Return the text of a turn.

    Args:
        model: whole, for the ids that end an answer.
        tokenizer: of the language model, with the chat template of the model's processor.
        marks: tokens that stand for a picture and for a clip, where there is no template; the latter may be None.
        plain: text between pictures and question and after the question, where there is no template.
        chat: use the template, where there is one.

    Raises:
        OptionsError: for a chat template without place for a question, or for a picture before it.
    """
    if not chat or tokenizer.chat_template is None:
        answer = override_chat_format(model, tokenizer, chat=False)
        return VisualChat(plain[0], "", marks[0], marks[1], plain[0], plain[1], answer)
    asked: Any = _text(QUESTION)
    answered: Any = _text(ANSWER)
    if QUESTION not in render_chat(tokenizer, asked):  # a template for messages of plain text
        asked, answered = QUESTION, ANSWER
    answer = chat_template_format(model, tokenizer, user=asked, assistant=answered)
    before, _, after = render_chat(tokenizer, asked).partition(QUESTION)
    picture = _before(tokenizer, {"type": "image"}, after)
    clip = None if marks[1] is None else _before(tokenizer, {"type": "video"}, after)
    seen = _common([before, picture, *([] if clip is None else [clip])])
    # Processors drop blanks at the ends of what they are given.
    bare = picture[len(seen) :].lstrip()
    seen = picture[: len(picture) - len(bare)]
    gap = bare[len(bare.rstrip()) :]
    return VisualChat(before, seen, bare.rstrip(), clip and clip[len(seen) :].rstrip(), gap, after, answer)


def _before(tokenizer: PreTrainedTokenizerBase, seen: dict[str, str], after: str) -> str:
    """Return the text a template writes before the question, a picture or clip in it."""
    content = [seen, *_text(QUESTION)]
    written = render_chat(tokenizer, content)
    if not written.endswith(QUESTION + after):
        raise OptionsError(
            f"The chat template of this model does not write {seen['type']} and question one after the other: "
            f"{written!r}. Accepted: a template that does. Build with template={{'chat': False}}."
        )
    return written.removesuffix(QUESTION + after)


def _common(texts: Sequence[str]) -> str:
    """Return what all texts begin with."""
    signs = enumerate(zip(*texts, strict=False))
    return texts[0][: next((place for place, own in signs if len(set(own)) > 1), min(map(len, texts)))]


def _text(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
