"""The chat format of a video language model: its frames stand where its chat template writes the placeholder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.model.chat_format import (
    ANSWER,
    QUESTION,
    ChatFormat,
    chat_template_format,
    override_chat_format,
    render_chat,
)


def video_chat_format(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, chat: bool, placeholder: str
) -> ChatFormat:
    """Return the chat format of a video language model.

    Args:
        model: the language model inside it.
        tokenizer: its tokenizer.
        chat: use the chat template, where there is one; else frames, a new line and the question.
        placeholder: the text that stands for a video.

    Raises:
        OptionsError: for a chat template without place for a question.
    """
    plain = override_chat_format(model, tokenizer, chat=False)
    if not chat or tokenizer.chat_template is None:
        return replace(plain, before="\n")
    user, assistant = _messages(tokenizer, placeholder)
    chat_format = chat_template_format(model, tokenizer, user=user, assistant=assistant)
    prefix, _, before = render_chat(tokenizer, user).partition(QUESTION)[0].partition(placeholder)
    opening = closing = ""
    bare = render_chat(tokenizer, [_text(QUESTION)]).partition(QUESTION)[0]  # of a chat without video
    marks = prefix.removeprefix(bare)
    if prefix.startswith(bare) and _all_added(tokenizer, marks) and _all_added(tokenizer, before):
        prefix, opening, before, closing = bare, marks, "", before
    ids = _ids(tokenizer, prefix)
    # A processor's template leaves the begin token to the tokenizer, as Video-LLaVA's does.
    begun = ids if ids[: len(plain.prefix)] == plain.prefix else plain.prefix + ids
    return replace(
        chat_format,
        prefix=begun,
        before=before,
        opening=_ids(tokenizer, opening),
        closing=_ids(tokenizer, closing),
    )


def _messages(tokenizer: PreTrainedTokenizerBase, placeholder: str) -> tuple[Any, Any]:
    """Return the contents of the user's and the assistant's message."""
    user = [{"type": "video"}, _text(QUESTION)]
    if placeholder in render_chat(tokenizer, user):
        return user, [_text(ANSWER)]
    return f"{placeholder}\n{QUESTION}", ANSWER  # a language model's own template, for text


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _all_added(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Return whether a text is nothing but tokens added to the vocabulary, which never merge with what is beside."""
    own = _ids(tokenizer, text)
    return bool(own) and set(own) <= set(tokenizer.get_added_vocab().values())


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
