"""Answers that a language model cannot tell apart, found from its tokenizer before any time is spent.

A language model reads and writes tokens. Words that its tokenizer does not know become one unknown token, so "north"
and "south" may be the same to it: it cannot learn which is meant, and scores both alike. What matters depends on how a
question is answered:

- free answers are trained and generated token by token, so different answers need different tokens, all of them known;
- choices scored by likelihood are compared token by token, closed by the end token. So one that begins another is not
  the same, but a mean over tokens favours the longer one where its other tokens are many;
- choices scored by letters are read in the prompt; only their letters are compared, so none begins another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

from crema_core.data.data_file import Record
from crema_core.errors import DataFileError
from crema_core.evaluation.score import normalize
from crema_core.model.chat_format import ChatFormat
from crema_core.model.language import LETTERS
from crema_core.model.template import PromptTemplate

NUM_EXAMPLES = 4
MANY_TEXTS = 20_000
"""So many take about a second."""
FAVOURED = 0.6
"""From this share on that the longer of two choices can overcome, one that begins another is reported."""
FREE, MANY = "free-text samples", "multiple-choice samples"
OTHER_WORDS = "Use other words, or a backbone whose tokenizer knows these."
ADVICE_LETTERS = "Where choices keep one order, template={'choice_scoring': 'letters'} tells them apart by their place."
SIMILAR_LENGTH = "Use choices of similar length."

Tokens = tuple[int, ...]


def require_choices(records: Sequence[Record], template: PromptTemplate, *, name: str) -> None:
    """Refuse questions with more choices than the scoring tells apart, before any time is spent.

    Args:
        records: the samples.
        template: how choices are scored.
        name: of the data, for the message.

    Raises:
        DataFileError: naming the first of these samples.
    """
    if template.most_choices is None:
        return
    numbered = [(own, own.line or number) for number, own in enumerate(records, start=1)]
    many = [(own, number) for own, number in numbered if len(own.choices or ()) > template.most_choices]
    if not many:
        return
    shown = ", ".join(f"{_place(own, number)} ({len(own.choices or ())})" for own, number in many[:NUM_EXAMPLES])
    more = f" and {len(many) - NUM_EXAMPLES:,} more" if len(many) > NUM_EXAMPLES else ""
    raise DataFileError(
        f"{len(many):,} of {len(records):,} samples of {name} have more choices than there are letters: {shown}{more}. "
        f"choice_scoring='{template.choice_scoring}' tells {template.most_choices} choices apart. Give fewer choices, "
        "or build the model with template={'choice_scoring': 'likelihood'}, which scores each choice's own text."
    )


@dataclass(frozen=True)
class Clash:
    """One way in which answers cannot be told apart.

    Attributes:
        kind: `equal` (texts that differ have the same tokens), `unknown` (with a token for what the tokenizer does not
            know), `prefix` (a choice begins a much longer one), `repeated` (a choice is given twice) or `many` (more
            choices than letters).
        text: the finding as sentences: in how many samples, examples, and what follows.
        advice: what to do about it, sentence by sentence.
        lines: of the samples concerned, from 1; of records that come from no file, positions.
    """

    kind: Literal["equal", "unknown", "prefix", "repeated", "many"]
    text: str
    advice: tuple[str, ...]
    lines: tuple[int, ...]


class _Case(NamedTuple):
    """One sample with such answers."""

    number: int  # line or position
    place: str  # the same as text
    texts: tuple[str, ...]


def check_answer_tokens(
    records: Sequence[Record],
    *,
    chat_format: ChatFormat,
    template: PromptTemplate,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Clash, ...]:
    """Compare answers and choices after tokenization.

    Args:
        records: the samples.
        chat_format: of the language model, with its tokenizer.
        template: how questions are put, and choices scored.
        say: told what is done where it takes a while.

    Returns:
        What cannot be told apart; empty where everything can.
    """
    texts = list(dict.fromkeys(text for own in records for text in own.choices or (own.answer,)))
    if len(texts) >= MANY_TEXTS:
        say(f"comparing {len(texts):,} answers and choices after tokenization")
    tokens = dict(zip(texts, map(tuple, chat_format.many_answer_ids(texts)), strict=True))
    unknown = chat_format.tokenizer.unk_token_id
    scoring: Literal["likelihood", "letters"] = "likelihood" if template.choice_scoring == "likelihood" else "letters"
    numbered = [(own, own.line or number) for number, own in enumerate(records, start=1)]
    free = [(own, number) for own, number in numbered if not own.choices]
    asked = [(own, number) for own, number in numbered if own.choices]
    most = max((len(own.choices or ()) for own, _ in asked), default=0)
    # Only where the tokenizer has them: the advice must not lead into the next error.
    by_letters = [ADVICE_LETTERS] if chat_format.letter_ids(LETTERS[:most]) and most <= len(LETTERS) else []
    return (
        *_repeated(asked),
        *_many(asked, template),
        *_unknown(free, tokens, unknown, "free"),
        *_equal_answers(free, tokens),
        *_unknown(asked, tokens, unknown, scoring),
        *_equal_choices(asked, tokens, scoring, by_letters),
        *(_prefixes(asked, tokens, by_letters) if scoring == "likelihood" else ()),
    )


def describe_clashes(name: str, clashes: Sequence[Clash]) -> str:
    """Return one message about all of them.

    Args:
        name: of the data.
        clashes: at least one.
    """
    advice = " ".join(dict.fromkeys(sentence for own in clashes for sentence in own.advice))
    listed = [f"- {own.text}" for own in clashes]
    return "\n".join([f"{name}: after tokenization not all answers can be told apart.", *listed, advice])


def _repeated(asked: Sequence[tuple[Record, int]]) -> Iterator[Clash]:
    cases = []
    for record, number in asked:
        choices = record.choices or ()
        if twice := [text for text in dict.fromkeys(choices) if choices.count(text) > 1]:
            cases.append(_Case(number, _place(record, number), tuple(twice)))
    if cases:
        text = _sentence(cases, len(asked), f"{MANY} a choice is given twice")
        yield Clash("repeated", text, ("Write each choice once.",), _lines(cases))


def _many(asked: Sequence[tuple[Record, int]], template: PromptTemplate) -> Iterator[Clash]:
    most = template.most_choices
    found = [(own, number) for own, number in asked if most is not None and len(own.choices or ()) > most]
    if found:
        (record, number), share = found[0], f"In {len(found):,} of {len(asked):,} {MANY}"
        text = f"{share} there are more than {most} choices, first: {_place(record, number)}. Letters end there."
        advice = ("template={'choice_scoring': 'likelihood'} scores each choice's own text.",)
        yield Clash("many", text, advice, tuple(number for _, number in found))


def _unknown(
    samples: Sequence[tuple[Record, int]],
    tokens: Mapping[str, Tokens],
    unknown: int | None,
    how: Literal["free", "likelihood", "letters"],
) -> Iterator[Clash]:
    cases = []
    for record, number in samples:
        found = [text for text in record.choices or (record.answer,) if unknown in tokens[text]]
        if unknown is not None and found:
            cases.append(_Case(number, _place(record, number), tuple(found)))
    if not cases:
        return
    what = f"{FREE} the answer has" if how == "free" else f"{MANY} choices have"
    follows = {
        "free": "All that is unknown is one token to the language model: it is learned, and generated, as nothing.",
        "likelihood": "All that is unknown is one token to the language model, in training and in scores.",
        "letters": "All that is unknown is one token to the language model, which reads the choices in the prompt.",
    }[how]
    text = f"{_sentence(cases, len(samples), f'{what} words unknown to the tokenizer')} {follows}"
    yield Clash("unknown", text, (OTHER_WORDS,), _lines(cases))


def _equal_answers(free: Sequence[tuple[Record, int]], tokens: Mapping[str, Tokens]) -> Iterator[Clash]:
    """Yield answers of different samples with equal tokens, unless they differ in case and punctuation alone."""
    groups: defaultdict[Tokens, dict[str, str]] = defaultdict(dict)
    for record, _ in free:
        groups[tokens[record.answer]].setdefault(normalize(record.answer), record.answer)
    clashing = {ids: tuple(texts.values()) for ids, texts in groups.items() if len(texts) > 1}
    if not clashing:
        return
    cases, seen = [], set()
    lines = []
    for record, number in free:
        ids = tokens[record.answer]
        if ids in clashing:
            lines.append(number)
            if ids not in seen:
                seen.add(ids)
                cases.append(_Case(number, f"first: {_place(record, number)}", clashing[ids]))
    count = sum(map(len, clashing.values()))
    text = (
        f"In {len(lines):,} of {len(free):,} {FREE} the answer has the tokens of another one, {count:,} different "
        f"texts: {_examples(cases, ' = ')}. They are the same to the language model."
    )
    yield Clash("equal", text, (OTHER_WORDS,), tuple(lines))


def _equal_choices(
    asked: Sequence[tuple[Record, int]],
    tokens: Mapping[str, Tokens],
    scoring: Literal["likelihood", "letters"],
    by_letters: Sequence[str],
) -> Iterator[Clash]:
    cases = []
    for record, number in asked:
        groups: defaultdict[Tokens, list[str]] = defaultdict(list)
        for text in dict.fromkeys(record.choices or ()):
            groups[tokens[text]].append(text)
        if same := [texts for texts in groups.values() if len(texts) > 1]:
            most: list[str] = max(same, key=len)
            cases.append(_Case(number, _place(record, number), tuple(most)))
    if not cases:
        return
    text = _sentence(cases, len(asked), f"{MANY} choices have equal tokens", joined=" = ")
    if scoring == "likelihood":
        text = f"{text} Their scores tie; a tie is counted, and not given to the first."
        yield Clash("equal", text, (OTHER_WORDS, *by_letters), _lines(cases))
    else:
        text = f"{text} They read the same in the prompt, so only their place decides."
        yield Clash("equal", text, (OTHER_WORDS,), _lines(cases))


def _prefixes(
    asked: Sequence[tuple[Record, int]], tokens: Mapping[str, Tokens], by_letters: Sequence[str]
) -> Iterator[Clash]:
    cases, most = [], 0.0
    for record, number in asked:
        found: list[tuple[float, tuple[str, str]]] = []
        for one, other in combinations(dict.fromkeys(record.choices or ()), 2):
            short, long = sorted((one, other), key=lambda text: len(tokens[text]))
            if len(tokens[short]) < len(tokens[long]) and tokens[long][: len(tokens[short])] == tokens[short]:
                share = overcome(len(tokens[short]) + 1, len(tokens[long]) + 1)
                found += [(share, (short, long))] if share > FAVOURED else []
        if found:
            share, pair = max(found)
            most = max(most, share)
            cases.append(_Case(number, _place(record, number), pair))
    if cases:
        text = (
            f"{_sentence(cases, len(asked), f'{MANY} a choice begins a much longer one', joined=' begins ')} The mean "
            f"over tokens favours the longer one: it can win where the shorter has up to {most:.0%} of the probability."
        )
        yield Clash("prefix", text, (SIMILAR_LENGTH, *by_letters), _lines(cases))


def overcome(short: int, long: int) -> float:
    """Return the largest probability of ending a choice that a longer one, which it begins, can still overcome.

    Args:
        short, long: tokens of both, end tokens included. What they share is taken for certain, and of the longer one
            all that follows its next token too; then their scores are log(p) / short and log(1 - p) / long.

    Example:
        >>> round(overcome(2, 8), 2)
        0.72
    """
    low, high = 0.5, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if middle ** (long / short) < 1 - middle else (low, middle)
    return low


def _sentence(cases: Sequence[_Case], total: int, what: str, *, joined: str = ", ") -> str:
    different: dict[tuple[str, ...], _Case] = {}
    for own in cases:
        different.setdefault(own.texts, own)
    return f"In {len(cases):,} of {total:,} {what}: {_examples(list(different.values()), joined)}."


def _lines(cases: Sequence[_Case]) -> tuple[int, ...]:
    return tuple(own.number for own in cases)


def _examples(cases: Sequence[_Case], joined: str) -> str:
    shown = [f"{_quoted(own.texts, joined)} ({own.place})" for own in cases[:NUM_EXAMPLES]]
    return ", ".join(shown) + (f" and {len(cases) - NUM_EXAMPLES:,} more" if len(cases) > NUM_EXAMPLES else "")


def _quoted(texts: Iterable[str], joined: str) -> str:
    own = [f"'{text}'" for text in texts]
    return joined.join(own[:NUM_EXAMPLES]) + (
        f"{joined}{len(own) - NUM_EXAMPLES:,} more" if len(own) > NUM_EXAMPLES else ""
    )


def _place(record: Record, number: int) -> str:
    return f"line {number}" if record.line else f"sample '{record.id}'"
