"""What surrounds modalities, question and answer, for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.errors import OptionsError
from crema_core.model.chat_format import ChatFormat, override_chat_format, own_chat_format
from crema_core.model.checkpoint import read_tokenizer
from crema_core.model.language_override import load_override, read_override_config
from crema_core.model.settings import BackboneSettings
from tests.support.checkpoints import Language

Folders = Callable[[Language], Path]


def override(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    settings = BackboneSettings(language_model=folder)
    return load_override(settings, read_override_config(str(folder), None), dtype=torch.float32)


def chat_format_of(folder: Path, *, chat: bool = True) -> ChatFormat:
    return override_chat_format(*override(folder), chat=chat)


def pieces(chat_format: ChatFormat, ids: list[int] | tuple[int, ...]) -> list[str]:
    return [str(piece) for piece in chat_format.tokenizer.convert_ids_to_tokens(list(ids))]


def test_a_chat_template_puts_modalities_and_question_into_the_user_s_turn(languages: Folders) -> None:
    chat_format = chat_format_of(languages("qwen2"))
    assert chat_format.tokenizer.decode(chat_format.prefix) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
    assert chat_format.tokenizer.decode(chat_format.question_ids("What is it?")) == (
        "What is it?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert pieces(chat_format, chat_format.answer_ids("red")) == ["red"]
    assert pieces(chat_format, [chat_format.end]) == ["<|im_end|>"]
    assert chat_format.stops == (0, 2)


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3"])
def test_the_parts_are_the_tokens_of_the_rendered_conversation(kind: Language, languages: Folders) -> None:
    chat_format = chat_format_of(languages(kind))
    parts = [
        *chat_format.prefix,
        *chat_format.question_ids("What is it?"),
        *chat_format.answer_ids("red"),
        chat_format.end,
    ]
    messages = [{"role": "user", "content": "What is it?"}]
    asked = chat_format.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    answer = {"mistral": " red</s>"}.get(kind, "red<|im_end|>")
    whole = chat_format.tokenizer(asked + answer, add_special_tokens=False)["input_ids"]
    assert chat_format.tokenizer.decode(parts).replace(" ", "") == chat_format.tokenizer.decode(whole).replace(" ", "")
    if kind != "mistral":  # SentencePiece begins each part with a space of its own
        assert parts == whole


def test_mistral_s_turns_open_with_its_begin_token_once_and_close_with_its_end(languages: Folders) -> None:
    chat_format = chat_format_of(languages("mistral"))
    assert pieces(chat_format, chat_format.prefix)[0] == "<s>"
    assert chat_format.tokenizer.decode(chat_format.question_ids("What is it?")) == "What is it? [/INST]"
    assert pieces(chat_format, chat_format.answer_ids("red")) == ["▁red"]
    assert pieces(chat_format, [chat_format.end]) == ["</s>"]


def test_without_a_chat_template_the_begin_token_comes_before_everything(languages: Folders) -> None:
    chat_format = chat_format_of(languages("llama"))
    assert pieces(chat_format, chat_format.prefix) == ["<s>"]
    assert pieces(chat_format, chat_format.question_ids("What is it?")) == ["▁What", "▁is", "▁it", "?"]
    assert pieces(chat_format, [chat_format.end]) == ["</s>"]


def test_a_chat_template_can_be_left_unused(languages: Folders) -> None:
    chat_format = chat_format_of(languages("qwen2"), chat=False)
    assert (chat_format.prefix, chat_format.suffix) == ((), "")
    assert pieces(chat_format, chat_format.answer_ids("red")) == ["Ġred"], "an answer follows the question's last sign"


def test_an_encoder_decoder_model_reads_the_question_closed_and_answers_in_a_text_of_its_own(
    languages: Folders,
) -> None:
    chat_format = chat_format_of(languages("t5"))
    assert pieces(chat_format, chat_format.question_ids("What is it?")) == ["▁What", "▁is", "▁it", "?", "</s>"]
    assert pieces(chat_format, chat_format.answer_ids("red")) == ["▁red"]
    assert chat_format.prefix == ()


@pytest.mark.parametrize("kind", ["qwen2", "mistral", "llama", "t5"])
def test_a_long_question_is_cut_and_the_turn_stays_whole(kind: Language, languages: Folders) -> None:
    chat_format = chat_format_of(languages(kind))
    cut = chat_format.question_ids("red blue green left right", 3)
    own = chat_format.question_ids("red blue green")
    assert cut == (own if kind != "t5" else chat_format.question_ids("red blue"))


def test_a_template_that_leaves_the_question_out_is_refused(languages: Folders) -> None:
    model, _ = override(languages("llama"))
    tokenizer = read_tokenizer(str(languages("llama")), None)
    tokenizer.chat_template = "{{ bos_token }}Hello"
    with pytest.raises(OptionsError) as caught:
        override_chat_format(model, tokenizer, chat=True)
    assert str(caught.value) == (
        "The tokenizer's chat template leaves out the user's or the assistant's text, so a question has no place in "
        "it. A template must write both messages. Build with template={'chat': False}."
    )


def test_a_language_model_without_any_end_token_is_refused(languages: Folders) -> None:
    model, tokenizer = override(languages("llama"))
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    with pytest.raises(OptionsError) as caught:
        own_chat_format(model, tokenizer)
    assert str(caught.value) == (
        "This language model has no end token, neither in its tokenizer nor in its configuration, so its answers would "
        "never end. Accepted: a tokenizer with eos_token. Set it in tokenizer_config.json."
    )
