"""Ids of texts. The sub-steps of a minibatch ask the same questions, which a tokenizer then reads once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from transformers import PreTrainedTokenizerBase

_Key = tuple[int, str, tuple[tuple[str, Any], ...]]
_read: ContextVar[dict[_Key, list[int]] | None] = ContextVar("read", default=None)


@contextmanager
def texts_read_once() -> Iterator[None]:
    """Inside the block, let every tokenizer read a text once; it must not be changed there."""
    before = _read.set({})
    try:
        yield
    finally:
        _read.reset(before)


def token_ids(
    tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool = False, **settings: Any
) -> list[int]:
    """Return the ids of a text.

    Args:
        tokenizer: reads it.
        text: any.
        add_special_tokens: put the tokenizer's own special tokens around it.
        settings: of the tokenizer's call.
    """
    settings["add_special_tokens"] = add_special_tokens
    known = _read.get()
    if known is None:
        return list(tokenizer(text, **settings)["input_ids"])
    key = (id(tokenizer), text, tuple(sorted(settings.items())))
    if key not in known:
        known[key] = list(tokenizer(text, **settings)["input_ids"])
    return list(known[key])
