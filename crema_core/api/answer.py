"""Answering questions about raw sources: read and encode each source once, then predict."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from crema_core.api.predict import Answer, QuestionBatch, predict
from crema_core.common.text import half_character
from crema_core.errors import OptionsError
from crema_core.features.deduplicate import sharing, spread_features
from crema_core.features.encode import encode_sources
from crema_core.features.feature_cache import FeatureCache, as_cache
from crema_core.model.memory import NEEDS_LESS, explain_out_of_memory
from crema_core.model.network import CremaNetwork, computes_as_built


@computes_as_built
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
        items: mappings with "question", optionally "choices", and a source per modality; a missing or None source is a
            missing modality.
        batch_size: questions per pass.
        max_new_tokens: longest open-ended answer.
        cache: features of this model, or the folder of a cache: sources that are files are encoded once. A
            `FeatureCache` serves many calls and looks at the encoders' weights once.

    Raises:
        UnknownModalityError: for a source of a modality the model does not have.
        OptionsError: for an item without a question or without any source, or with texts that cannot be asked.
        MediaError: for a source that cannot be read.
        OutOfMemoryError: when a batch does not fit.
    """
    model.backbone.require_weights()
    kept = as_cache(model, cache)
    mode = model.training
    model.eval()
    try:
        with explain_out_of_memory(f"A pass over {batch_size} questions", NEEDS_LESS):
            return [
                answer
                for chunk in _chunks(items, batch_size)
                for answer in _answer_batch(model, chunk, kept, max_new_tokens=max_new_tokens)
            ]
    finally:
        model.train(mode)


def _answer_batch(
    model: CremaNetwork, items: Sequence[Mapping[str, Any]], cache: FeatureCache | None, *, max_new_tokens: int
) -> list[Answer]:
    """Answer some questions at once; a source that several of them concern is read and encoded once."""
    sources = [_sources(model, item) for item in items]
    choices = [item.get("choices") for item in items]
    texts = [model.template.render(item["question"], own) for item, own in zip(items, choices, strict=True)]
    rows = {name: [row for row, own in enumerate(sources) if name in own] for name in model.names}
    keys = {name: [_source_key(sources[row][name]) for row in own] for name, own in rows.items() if own}
    same = {name: sharing(own) for name, own in keys.items()}
    firsts = {name: {rows[name][position] for position in found.firsts} for name, found in same.items()}
    once = [{name: own[name] for name in own if row in firsts[name]} for row, own in enumerate(sources)]
    features = {
        name: spread_features(few, same[name].owner, torch.tensor(rows[name]))
        for name, few in encode_sources(model, once, cache).items()
    }
    return predict(model, QuestionBatch(texts, choices, features, keys), max_new_tokens=max_new_tokens)


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
        model.branch(name)
    if not item.get("question"):
        raise OptionsError(
            "An item has no question. Each item needs 'question' and at least one source. "
            "Write {'question': '...', ...}."
        )
    _check_texts(model, item)
    if not given:
        raise OptionsError(
            f"The question {item['question']!r} comes without any source. Accepted: one or more of "
            f"{', '.join(model.names)}. Pass one of them, for example {model.major}='FILE'."
        )
    return {name: given[name] for name in model.names if name in given}


def _check_texts(model: CremaNetwork, item: Mapping[str, Any]) -> None:
    """Refuse a question or choices that cannot be asked.

    Raises:
        OptionsError: for what is no text, half a character, fewer than two choices or more than can be told apart.
    """
    question, choices = item["question"], item.get("choices")
    if not isinstance(question, str):
        raise OptionsError(f"The question is {type(question).__name__}, not a text. Write it in quotes.")
    if half := half_character([question, choices if isinstance(choices, str) else list(choices or ())]):
        raise OptionsError(
            f"A text of the question {question!a} holds {half}, one half of a character that was cut in two, which "
            "no tokenizer takes. Write the whole character, or leave it out."
        )
    if choices is None or (not isinstance(choices, str) and len(choices) == 0):
        return
    if isinstance(choices, str) or not all(isinstance(text, str) for text in choices) or len(choices) < 2:
        raise OptionsError(
            f"choices is {choices!r}, not a list of at least two texts. Write choices=['left', 'right'], or leave "
            "choices out for an open question."
        )
    most = model.template.most_choices
    if most is not None and len(choices) > most:
        raise OptionsError(
            f"{len(choices)} choices came, and choice_scoring='{model.template.choice_scoring}' tells {most} apart, "
            "one letter each. Give fewer, or build the model with template={'choice_scoring': 'likelihood'}, which "
            "scores each choice's own text."
        )


def _chunks(items: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
