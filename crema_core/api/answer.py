"""Answering questions about raw sources: prepare, encode, fuse, ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from crema_core.errors import OptionsError
from crema_core.features.encode import encode_sources
from crema_core.features.feature_cache import FeatureCache, as_cache
from crema_core.features.sharing import shared_tokens, sharing, spread_features
from crema_core.model.memory import NEEDS_LESS, fits
from crema_core.model.network import CremaNetwork, Outputs
from crema_core.tokens import SenseFeatures, SenseTokens


@dataclass(frozen=True)
class Answer:
    """An answer and what it rests on.

    Attributes:
        text: the generated text, or the best choice.
        scores: log-probability of each choice; empty for open-ended questions.
        used: names of the senses that took part.
        extras: what the strategy says beside it, numbers by name of an output such as "encoder_weights".
    """

    text: str
    scores: dict[str, float]
    used: tuple[str, ...]
    extras: Outputs = field(default_factory=dict)


@torch.no_grad()
def answer_many(
    model: CremaNetwork,
    items: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 10,
    cache: FeatureCache | str | os.PathLike[str] | None = None,
) -> list[Answer]:
    """Answer questions.

    Args:
        model: a built model; it is left in the mode it was in.
        items: mappings with "question", optionally "choices", and a source per sense; a missing or None source is a
            missing sense.
        batch_size: questions per pass.
        max_new_tokens: longest open-ended answer.
        cache: features of this model, or the folder of a cache: sources that are files are encoded once. A
            `FeatureCache` serves many calls and looks at the encoders' weights once.

    Raises:
        UnknownModalityError: for a source of a sense the model does not have.
        OptionsError: for an item without a question or without any source.
        MediaError: for a source that cannot be read.
        OutOfMemoryError: when a batch does not fit.
    """
    model.backbone.require_weights()
    kept = as_cache(model, cache)

    def encode(sources: Sequence[Mapping[str, Any]]) -> dict[str, SenseFeatures]:
        return encode_sources(model, sources, kept)

    mode = model.training
    model.eval()
    try:
        with fits(f"A pass over {batch_size} questions", NEEDS_LESS):
            return [
                answer
                for chunk in _chunks(items, batch_size)
                for answer in _answer_batch(model, chunk, encode, max_new_tokens=max_new_tokens)
            ]
    finally:
        model.train(mode)


def _answer_batch(
    model: CremaNetwork,
    items: Sequence[Mapping[str, Any]],
    encode: Callable[[Sequence[Mapping[str, Any]]], dict[str, SenseFeatures]],
    *,
    max_new_tokens: int,
) -> list[Answer]:
    sources = [_sources(model, item) for item in items]
    choices = [item.get("choices") for item in items]
    questions = [model.template.render(item["question"], own) for item, own in zip(items, choices, strict=True)]
    tokens = _tokens(model, sources, questions, encode)
    prompt = model.prompt(tokens, questions)
    answers: dict[int, tuple[str, dict[str, float]]] = {}
    # Both kinds of question may be in one batch; each pass keeps the answers of its own kind.
    if any(own for own in choices):
        scored = model.score_choices(prompt, [own or ["", ""] for own in choices])
        for index, own in enumerate(choices):
            if own:
                scores = dict(zip(own, scored[index], strict=True))
                answers[index] = (max(scores, key=scores.__getitem__), scores)
    if not all(choices):
        texts = model.generate(prompt, max_new_tokens=max_new_tokens)
        answers |= {index: (texts[index], {}) for index, own in enumerate(choices) if not own}
    extras = model.extra_outputs(tokens, len(items))
    return [Answer(*answers[index], tuple(own), extras[index]) for index, own in enumerate(sources)]


def _tokens(
    model: CremaNetwork,
    sources: Sequence[Mapping[str, Any]],
    questions: Sequence[str],
    encode: Callable[[Sequence[Mapping[str, Any]]], dict[str, SenseFeatures]],
) -> dict[str, SenseTokens]:
    """Return the tokens of all samples; a source that several questions concern is read and encoded once."""
    rows = {name: [row for row, own in enumerate(sources) if name in own] for name in model.names}
    keys = {name: [_source_key(sources[row][name]) for row in own] for name, own in rows.items() if own}
    same = {name: sharing(own) for name, own in keys.items()}
    firsts = {name: {rows[name][position] for position in found.firsts} for name, found in same.items()}
    once = [{name: own[name] for name in own if row in firsts[name]} for row, own in enumerate(sources)]
    features = {
        name: spread_features(few, same[name].owner, torch.tensor(rows[name])) for name, few in encode(once).items()
    }
    return shared_tokens(model, features, questions, keys)


def _source_key(source: Any) -> Hashable:
    """Return what equal sources share: files their paths, anything else is equal to itself alone."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, list | tuple) and all(isinstance(part, str | os.PathLike) for part in source):
        return tuple(os.fspath(part) for part in source)
    return id(source)


def _sources(model: CremaNetwork, item: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in item.items() if key not in ("question", "choices") and value is not None}
    for name in given:
        model.sense(name)
    if not item.get("question"):
        raise OptionsError(
            "An item has no question. Each item needs 'question' and at least one source. "
            "Write {'question': '...', ...}."
        )
    if not given:
        raise OptionsError(
            f"The question {item['question']!r} comes without any source. Accepted: one or more of "
            f"{', '.join(model.names)}. Write model.answer(question, {model.major}='file')."
        )
    return {name: given[name] for name in model.names if name in given}


def _chunks(items: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
