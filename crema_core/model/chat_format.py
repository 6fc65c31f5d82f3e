"""What surrounds modalities, question and answer in the language model's text: the chat format, begin and end tokens.

Three kinds of language model take a prompt, and each is asked the way it was trained:

- the backbone's own follows the modalities with the question and the tokenizer's own special tokens, as BLIP-2 and
  InstructBLIP do (a begin token then stands between modalities and question);
- another one without chat template gets its begin token, where it has one, before everything;
- another one with a chat template reads modalities and question inside the user's turn, and its answer is the
  assistant's.

An answer continues a text: byte-level tokenizers write " red" otherwise than "red", so answers and answer letters are
tokenised behind the text they follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.errors import OptionsError
from crema_core.model.token_ids import token_ids

QUESTION, ANSWER = "QUESTIONTEXT", "ANSWERTEXT"
"""Stand for the two messages where a chat template is rendered."""
# Templates that name today's date or think aloud first would make an answer depend on the day, or never come.
_SETTINGS: dict[str, Any] = {"date_string": "26 Jul 2024", "enable_thinking": False}


@dataclass(frozen=True)
class ChatFormat:
    """The text around a question, and how it is tokenised.

    Attributes:
        tokenizer: of the language model.
        end: id that closes an answer in training.
        stops: ids at which generation stops.
        prefix: ids before the modalities.
        suffix: text between question and answer.
        context: text whose continuation an answer is; "" where an answer begins a text of its own.
        answer_prefix: text between `context` and the answer's own.
        own_specials: tokenise the question with the tokenizer's own special tokens.
        before: text between modalities and question.
    """

    tokenizer: PreTrainedTokenizerBase
    end: int
    stops: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    suffix: str = ""
    context: str = ""
    answer_prefix: str = ""
    own_specials: bool = True
    before: str = ""

    def question_ids(self, question: str, limit: int | None = None) -> list[int]:
        """Return the ids from the modalities to the answer.

        Args:
            question: rendered text.
            limit: most tokens of the question, special tokens included; a longer one loses its end, never the turn's.
        """
        if self.own_specials:
            return token_ids(
                self.tokenizer, question, add_special_tokens=True, truncation=limit is not None, max_length=limit
            )
        if limit is not None and len(own := token_ids(self.tokenizer, question)) > limit:
            question = str(self.tokenizer.decode(own[:limit]))
        return token_ids(self.tokenizer, self.before + question + self.suffix)

    def answer_ids(self, answer: str) -> list[int]:
        """Return the ids of an answer where it follows the question, without the closing one."""
        return _continuation(self.tokenizer, self.context, self.answer_prefix + answer)

    def letter_ids(self, letters: Sequence[str]) -> tuple[list[int], list[int]] | None:
        """Return the ids every "Option X" begins with and the one id that differs, for each letter.

        Returns:
            None where the tokenizer gives the letters no ids of their own.
        """
        rows = [self.answer_ids(f"Option {letter}") for letter in letters]
        common = rows[0][:-1] if rows else []
        own = [row[-1] for row in rows]
        unknown = self.tokenizer.unk_token_id
        known = all(row[:-1] == common for row in rows) and len(set(own)) == len(own) and unknown not in own
        return (common, own) if known else None

    def many_answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        """Return `answer_ids` of each answer, tokenized at once."""
        if not answers:
            return []
        before = len(token_ids(self.tokenizer, self.context)) if self.context else 0
        texts = [self.context + self.answer_prefix + answer for answer in answers]
        only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
        rows = self.tokenizer(texts, add_special_tokens=False, **only_ids)["input_ids"]
        return [list(row[before:]) for row in rows]


def own_chat_format(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """Return the chat format of a backbone's own language model."""
    end, stops = _ends(model, tokenizer)
    # A decoder of its own begins a text; a decoder-only model continues after the question's last sign.
    context, answer_prefix = ("", "") if model.config.is_encoder_decoder else _joined(tokenizer, "?", " ")
    return ChatFormat(tokenizer, end, stops, context=context, answer_prefix=answer_prefix)


def tokenizer_chat_format(tokenizer: PreTrainedTokenizerBase, *, is_encoder_decoder: bool) -> ChatFormat:
    """Return how a tokenizer tokenizes answers, for looking at them without the weights of its language model.

    The text around a question is not there: an answer follows a question mark, whatever the chat template.

    Args:
        tokenizer: of a language model.
        is_encoder_decoder: whether answers begin a text of their own.
    """
    context, answer_prefix = ("", "") if is_encoder_decoder else _joined(tokenizer, "?", " ")
    end = tokenizer.eos_token_id
    return ChatFormat(tokenizer, -1 if end is None else int(end), (), context=context, answer_prefix=answer_prefix)


def override_chat_format(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, chat: bool) -> ChatFormat:
    """Return the chat format of a language model that replaces the backbone's own.

    Args:
        model: causal or encoder-decoder.
        tokenizer: its tokenizer.
        chat: use the tokenizer's chat template where it has one.

    Raises:
        OptionsError: for a chat template without place for a question.
    """
    if chat and tokenizer.chat_template is not None:
        return chat_template_format(model, tokenizer)
    own = own_chat_format(model, tokenizer)
    return own if model.config.is_encoder_decoder else replace(own, prefix=_begin(tokenizer), own_specials=False)


def chat_template_format(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, user: Any = QUESTION, assistant: Any = ANSWER
) -> ChatFormat:
    """Return the chat format that a tokenizer's chat template describes.

    Args:
        model: causal or encoder-decoder.
        tokenizer: its tokenizer, with a chat template.
        user: content of the user's message, which contains `QUESTION`.
        assistant: content of the assistant's message, which contains `ANSWER`.

    Raises:
        OptionsError: for a chat template without place for a question.
    """
    asked, answered = render_chat(tokenizer, user), render_chat(tokenizer, user, assistant)
    prefix, found, suffix = asked.partition(QUESTION)
    _, found_answer, close = answered.rpartition(ANSWER)
    if not found or not found_answer:
        raise OptionsError(
            "The tokenizer's chat template leaves out the user's or the assistant's text, so a question has no place "
            "in it. A template must write both messages. Build with template={'chat': False}."
        )
    # Text between the assistant's header and its answer: Mistral's template writes a space there.
    between = answered[: -len(ANSWER + close)]
    answer_prefix = between.removeprefix(asked) if between.startswith(asked) else ""
    context, answer_prefix = _joined(tokenizer, suffix, answer_prefix)
    end, stops = _ends(model, tokenizer)
    last = token_ids(tokenizer, close.lstrip()) or [end]
    return ChatFormat(
        tokenizer,
        last[0],
        tuple(sorted({*stops, last[0]})),
        prefix=tuple(token_ids(tokenizer, prefix)),
        suffix=suffix,
        context=context,
        answer_prefix=answer_prefix,
        own_specials=False,
    )


def render_chat(tokenizer: PreTrainedTokenizerBase, user: Any, assistant: Any = None) -> str:
    """Return a chat as text: up to where the assistant begins, or with the assistant's message.

    Args:
        tokenizer: with a chat template.
        user, assistant: contents of the two messages, texts or lists of parts as transformers takes them.
    """
    chat = [{"role": "user", "content": user}]
    if assistant is not None:
        chat.append({"role": "assistant", "content": assistant})
    begins = assistant is None
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=begins, **_SETTINGS))


def _joined(tokenizer: PreTrainedTokenizerBase, context: str, answer_prefix: str) -> tuple[str, str]:
    """Return the context to tokenise answers behind and the answer prefix; none where the tokenizer merges the two."""
    before, joined = token_ids(tokenizer, context), token_ids(tokenizer, f"{context}{answer_prefix}Option A")
    return (context, answer_prefix) if joined[: len(before)] == before else ("", "")


def _continuation(tokenizer: PreTrainedTokenizerBase, context: str, text: str) -> list[int]:
    before = token_ids(tokenizer, context) if context else []
    return token_ids(tokenizer, context + text)[len(before) :]


def _begin(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the begin token where the tokenizer opens texts with one."""
    begins = token_ids(tokenizer, "a", add_special_tokens=True)[:1] == [tokenizer.bos_token_id]
    return (int(tokenizer.bos_token_id),) if begins else ()


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, tuple[int, ...]]:
    """Return the id that closes an answer and all at which generation stops.

    Where tokenizer and checkpoint disagree the checkpoint decides: BLIP-2's OPT ends its answers with a new line
    (id 50118), which its tokenizer does not call an end.
    """
    given = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = [given] if isinstance(given, int) else list(given or ())
    own = tokenizer.eos_token_id
    if own is None and not stops:
        raise OptionsError(
            "This language model has no end token, neither in its tokenizer nor in its configuration, so its answers "
            "would never end. Accepted: a tokenizer with eos_token. Set it in tokenizer_config.json."
        )
    end = own if own is not None and (own in stops or not stops) else stops[0]
    return int(end), tuple(sorted({*stops, *([own] if own is not None else [])}))
