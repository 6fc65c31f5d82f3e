"""Answers and choices after tokenization: what a language model cannot tell apart is counted and named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from crema_core.data.data_file import Record
from crema_core.evaluation import answer_tokens
from crema_core.evaluation.answer_tokens import FAVOURED, Clash, check_answer_tokens, describe_clashes, overcome
from crema_core.model.chat_format import tokenizer_chat_format
from crema_core.model.checkpoint import read_tokenizer
from crema_core.model.load_backbone import load_backbone, read_answer_format
from crema_core.model.settings import BackboneSettings
from crema_core.model.shipped import tiny_backbone_path
from crema_core.model.template import PromptTemplate
from tests.support.tokenizers import Kind, save_tokenizer

OTHER_WORDS = "Use other words, or a backbone whose tokenizer knows these."
BY_PLACE = "Where choices keep one order, template={'choice_scoring': 'letters'} tells them apart by their place."


@pytest.fixture(scope="module")
def tiny() -> PreTrainedTokenizerBase:
    return read_tokenizer(str(tiny_backbone_path()), None)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """It has pieces of all signs of ASCII, and of the letters A to H."""
    return read_tokenizer(str(save_tokenizer(tmp_path_factory.mktemp("t5"), "t5")), None)


def free(*answers: str) -> list[Record]:
    return [Record(f"s{line}", "what ?", answer, {}, line=line) for line, answer in enumerate(answers, start=1)]


def asked(*rows: tuple[str, ...], first: int = 1) -> list[Record]:
    return [Record(f"s{n}", "what ?", row[0], {}, choices=row, line=n) for n, row in enumerate(rows, start=first)]


def check(tokenizer: PreTrainedTokenizerBase, records: list[Record], scoring: str = "likelihood") -> list[Clash]:
    template = PromptTemplate.model_validate({"choice_scoring": scoring})
    answers = tokenizer_chat_format(tokenizer, is_encoder_decoder=True)
    return list(check_answer_tokens(records, chat_format=answers, template=template))


def test_answers_of_unknown_words_are_counted_and_are_equal(tiny: PreTrainedTokenizerBase) -> None:
    unknown, equal = check(tiny, free("north", "red", "south", "north", "calm", "awake", "left", "asleep"))
    assert unknown == Clash(
        "unknown",
        "In 6 of 8 free-text samples the answer has words unknown to the tokenizer: 'north' (line 1), 'south' (line "
        "3), 'calm' (line 5), 'awake' (line 6) and 1 more. All that is unknown is one token to the language model: it "
        "is learned, and generated, as nothing.",
        (OTHER_WORDS,),
        (1, 3, 4, 5, 6, 8),
    )
    assert equal == Clash(
        "equal",
        "In 6 of 8 free-text samples the answer has the tokens of another one, 5 different texts: 'north' = 'south' = "
        "'calm' = 'awake' = 1 more (first: line 1). They are the same to the language model.",
        (OTHER_WORDS,),
        (1, 3, 4, 5, 6, 8),
    )


def test_answers_that_are_told_apart_are_not_mentioned(tiny: PreTrainedTokenizerBase) -> None:
    for scoring in ("likelihood", "letters", "released"):
        assert check(tiny, [*free("red", "left", "red ball"), *asked(("red", "blue"), ("blue", "red"))], scoring) == []


def test_answers_that_differ_in_case_and_punctuation_alone_may_be_equal(tiny: PreTrainedTokenizerBase) -> None:
    assert len({tuple(tiny(text)["input_ids"]) for text in ("red", "Red")}) == 1  # it writes all in lower case
    assert check(tiny, free("red", "Red")) == []
    (found,) = check(tiny, asked(("red", "Red")))  # but a choice is one or the other
    assert (found.kind, found.lines) == ("equal", (1,))


def test_choices_are_compared_within_their_sample(tiny: PreTrainedTokenizerBase) -> None:
    records = asked(("left", "north"), ("left", "south"), ("left", "north", "calm"), ("north", "calm"))
    unknown, equal = check(tiny, records)
    assert (unknown.kind, unknown.lines) == ("unknown", (1, 2, 3, 4))
    assert equal == Clash(
        "equal",
        "In 2 of 4 multiple-choice samples choices have equal tokens: 'north' = 'calm' (line 3). Their scores tie; a "
        "tie is counted, and not given to the first.",
        (OTHER_WORDS, BY_PLACE),
        (3, 4),
    )


def test_choices_scored_by_letters_are_read_in_the_prompt(tiny: PreTrainedTokenizerBase) -> None:
    for scoring in ("letters", "released"):
        unknown, equal = check(tiny, asked(("north", "south")), scoring)
        assert "which reads the choices in the prompt" in unknown.text
        assert equal.text == (
            "In 1 of 1 multiple-choice samples choices have equal tokens: 'north' = 'south' (line 1). They read the "
            "same in the prompt, so only their place decides."
        )
        assert equal.advice == (OTHER_WORDS,)


def test_letters_are_advised_only_where_the_tokenizer_has_them(
    tiny: PreTrainedTokenizerBase, t5: PreTrainedTokenizerBase
) -> None:
    for tokenizer, num_letters in ((tiny, 9), (t5, 8)):
        for count, advice in ((2, (BY_PLACE,)), (num_letters, (BY_PLACE,)), (num_letters + 1, ()), (27, ())):
            choices = ("north 北", "north 南", *("red " * length for length in range(1, count - 1)))
            equal = next(own for own in check(tokenizer, asked(choices)) if own.kind == "equal")
            assert equal.advice == (OTHER_WORDS, *advice), count


def test_a_choice_given_twice_is_found_under_any_scoring(tiny: PreTrainedTokenizerBase) -> None:
    for scoring in ("likelihood", "letters"):
        (found,) = check(tiny, asked(("red", "blue", "red"), ("red", "blue")), scoring)
        assert found == Clash(
            "repeated",
            "In 1 of 2 multiple-choice samples a choice is given twice: 'red' (line 1).",
            ("Write each choice once.",),
            (1,),
        )


def test_a_choice_that_begins_a_much_longer_one_is_found_where_means_are_compared(
    tiny: PreTrainedTokenizerBase,
) -> None:
    long = "red ball on the left wall"
    (found,) = check(tiny, asked(("red", "red ball"), ("red", long), (long, "blue")))
    assert found.kind == "prefix"
    assert found.lines == (2,)
    assert found.text.startswith(
        f"In 1 of 3 multiple-choice samples a choice begins a much longer one: 'red' begins '{long}' (line 2). "
    )
    assert found.advice == ("Use choices of similar length.", BY_PLACE)
    assert check(tiny, asked(("red", long)), "letters") == []


@pytest.mark.parametrize(("short", "long"), [(2, 3), (2, 4), (2, 8), (3, 12)])
def test_the_share_a_longer_choice_overcomes_is_where_the_means_are_equal(short: int, long: int) -> None:
    share = overcome(short, long)
    assert math.log(share) / short == pytest.approx(math.log(1 - share) / long, abs=1e-4)
    assert math.log(share + 0.01) / short > math.log(1 - share - 0.01) / long
    assert (share > FAVOURED) == (long >= 2 * short)


def test_samples_without_a_line_are_named_by_their_id(tiny: PreTrainedTokenizerBase) -> None:
    found, *_ = check(tiny, [Record("first", "what ?", "north", {})])
    assert "'north' (sample 'first')" in found.text
    assert found.lines == (1,)


def test_one_message_has_every_finding_and_each_advice_once(tiny: PreTrainedTokenizerBase) -> None:
    lines = describe_clashes("train.jsonl", check(tiny, [*free("north", "south"), *asked(("north", "south"), first=3)]))
    first, *found, advice = lines.splitlines()
    assert first == "train.jsonl: after tokenization not all answers can be told apart."
    assert [line.split(" samples")[0] for line in found] == [
        "- In 2 of 2 free-text",
        "- In 2 of 2 free-text",
        "- In 1 of 1 multiple-choice",
        "- In 1 of 1 multiple-choice",
    ]
    assert advice == f"{OTHER_WORDS} {BY_PLACE}"


def test_what_takes_a_while_is_said(tiny: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_tokens, "MANY_TEXTS", 3)
    answers, said = tokenizer_chat_format(tiny, is_encoder_decoder=True), []
    for records in (free("red", "left"), free("red", "left", "blue")):
        check_answer_tokens(records, chat_format=answers, template=PromptTemplate(), say=said.append)
    assert said == ["comparing 3 answers and choices after tokenization"]


@pytest.mark.parametrize("kind", ["t5", "opt", "llama", "qwen"])
@pytest.mark.parametrize("is_encoder_decoder", [True, False])
def test_many_answers_have_the_tokens_of_each(tmp_path: Path, kind: Kind, is_encoder_decoder: bool) -> None:
    tokenizer = read_tokenizer(str(save_tokenizer(tmp_path, kind)), None)
    answers = tokenizer_chat_format(tokenizer, is_encoder_decoder=is_encoder_decoder)
    texts = ["red", "a dog", "north", "Option A", "red"]
    assert answers.many_answer_ids(texts) == [answers.answer_ids(text) for text in texts]
    assert answers.many_answer_ids([]) == []


@pytest.mark.parametrize("name", ["crema-tiny", "crema-tiny-vlm", "crema-tiny-video"])
def test_without_weights_answers_have_the_tokens_of_the_loaded_backbone(name: str) -> None:
    answers, wording = read_answer_format(BackboneSettings(backbone=name))
    loaded = load_backbone(name)
    template = PromptTemplate(**{**loaded.template, **wording})
    assert wording == loaded.template
    own = loaded.prompt_format(template)
    for text in ("red", "north", "a dog"):
        assert answers.answer_ids(text) == own.answer_ids(text)


def test_another_language_models_tokenizer_goes_before_the_backbones(tmp_path: Path, languages) -> None:  # type: ignore[no-untyped-def]
    place = str(languages("qwen2"))
    answers, wording = read_answer_format(BackboneSettings(backbone="crema-tiny", language_model=place))
    assert wording == {}
    assert answers.tokenizer.get_vocab() == read_tokenizer(place, None).get_vocab()
    assert answers.tokenizer.unk_token_id not in answers.answer_ids("north")
