"""What stands around senses, question and answer, for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crema_core.errors import OptionsError
from crema_core.model.checkpoint import read_tokenizer
from crema_core.model.seat import Seat, load_seat, read_seat_config
from crema_core.model.turns import Turns, own_turns, seat_turns
from tests.support.checkpoints import Language

Folders = Callable[[Language], Path]


def seat(folder: Path) -> Seat:
    return load_seat(str(folder), None, read_seat_config(str(folder), None), dtype=torch.float32)


def turns_of(folder: Path, *, chat: bool = True) -> Turns:
    found = seat(folder)
    return seat_turns(found.model, found.tokenizer, chat=chat)


def pieces(turns: Turns, ids: list[int] | tuple[int, ...]) -> list[str]:
    return [str(piece) for piece in turns.tokenizer.convert_ids_to_tokens(list(ids))]


def test_a_chat_template_puts_senses_and_question_into_the_user_s_turn(languages: Folders) -> None:
    turns = turns_of(languages("qwen2"))
    assert turns.tokenizer.decode(turns.head) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
    assert turns.tokenizer.decode(turns.question_ids("What is it?")) == (
        "What is it?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert pieces(turns, turns.answer_ids("red")) == ["red"]
    assert pieces(turns, [turns.end]) == ["<|im_end|>"]
    assert turns.stops == (0, 2)


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3"])
def test_the_parts_are_the_tokens_of_the_rendered_conversation(kind: Language, languages: Folders) -> None:
    turns = turns_of(languages(kind))
    parts = [*turns.head, *turns.question_ids("What is it?"), *turns.answer_ids("red"), turns.end]
    messages = [{"role": "user", "content": "What is it?"}]
    asked = turns.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    answer = {"mistral": " red</s>"}.get(kind, "red<|im_end|>")
    whole = turns.tokenizer(asked + answer, add_special_tokens=False)["input_ids"]
    assert turns.tokenizer.decode(parts).replace(" ", "") == turns.tokenizer.decode(whole).replace(" ", "")
    if kind != "mistral":  # SentencePiece begins each part with a space of its own
        assert parts == whole


def test_mistral_s_turns_open_with_its_begin_token_once_and_close_with_its_end(languages: Folders) -> None:
    turns = turns_of(languages("mistral"))
    assert pieces(turns, turns.head)[0] == "<s>"
    assert turns.tokenizer.decode(turns.question_ids("What is it?")) == "What is it? [/INST]"
    assert pieces(turns, turns.answer_ids("red")) == ["▁red"]
    assert pieces(turns, [turns.end]) == ["</s>"]


def test_without_a_chat_template_the_begin_token_comes_before_everything(languages: Folders) -> None:
    turns = turns_of(languages("llama"))
    assert pieces(turns, turns.head) == ["<s>"]
    assert pieces(turns, turns.question_ids("What is it?")) == ["▁What", "▁is", "▁it", "?"]
    assert pieces(turns, [turns.end]) == ["</s>"]


def test_a_chat_template_can_be_left_unused(languages: Folders) -> None:
    turns = turns_of(languages("qwen2"), chat=False)
    assert (turns.head, turns.tail) == ((), "")
    assert pieces(turns, turns.answer_ids("red")) == ["Ġred"], "an answer follows the question's last sign"


def test_an_encoder_decoder_model_reads_the_question_closed_and_answers_in_a_text_of_its_own(
    languages: Folders,
) -> None:
    turns = turns_of(languages("t5"))
    assert pieces(turns, turns.question_ids("What is it?")) == ["▁What", "▁is", "▁it", "?", "</s>"]
    assert pieces(turns, turns.answer_ids("red")) == ["▁red"]
    assert turns.head == ()


@pytest.mark.parametrize("kind", ["qwen2", "mistral", "llama", "t5"])
def test_a_long_question_is_cut_and_the_turn_stays_whole(kind: Language, languages: Folders) -> None:
    turns = turns_of(languages(kind))
    cut = turns.question_ids("red blue green left right", 3)
    own = turns.question_ids("red blue green")
    assert cut == (own if kind != "t5" else turns.question_ids("red blue"))


def test_a_template_that_leaves_the_question_out_is_refused(languages: Folders) -> None:
    found = seat(languages("llama"))
    tokenizer = read_tokenizer(str(languages("llama")), None)
    tokenizer.chat_template = "{{ bos_token }}Hello"
    with pytest.raises(OptionsError) as caught:
        seat_turns(found.model, tokenizer, chat=True)
    assert str(caught.value) == (
        "The tokenizer's chat template leaves out the user's or the assistant's text, so a question has no place in "
        "it. A template must write both messages. Build with template={'chat': False}."
    )


def test_a_language_model_without_any_end_token_is_refused(languages: Folders) -> None:
    found = seat(languages("llama"))
    found.tokenizer.eos_token = None
    found.model.generation_config.eos_token_id = None
    with pytest.raises(OptionsError) as caught:
        own_turns(found.model, found.tokenizer)
    assert str(caught.value) == (
        "This language model has no end token, neither in its tokenizer nor in its configuration, so its answers would "
        "never end. Accepted: a tokenizer with eos_token. Set it in tokenizer_config.json."
    )
