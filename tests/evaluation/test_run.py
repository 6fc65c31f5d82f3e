from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crema_core.data import modality_calls
from crema_core.data.data_file import Record
from crema_core.errors import DataFileError, OptionsError, UnknownModalityError
from crema_core.evaluation.run import KEPT_BATCHES, evaluate
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.window import Window
from tests.support.birds import register_songbirds
from tests.train.conftest import MakeModel
from tests.train.file_modalities import ANSWERS, write_data, write_records


def test_a_result_counts_types_tokens_and_questions(new_model: MakeModel, tmp_path: Path) -> None:
    result = evaluate(new_model(), write_data(tmp_path / "data", 5), batch_size=2)
    assert result.counts == {"color": 2, "side": 3}
    assert (result.num_samples, result.modalities, result.shuffled) == (5, ("main", "other", "wave", "points"), None)
    assert 0 <= result.accuracy <= 1
    assert result.tokens_per_answer > 10


def test_predictions_are_written_as_they_come(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    monkeypatch.setattr(model, "generate", lambda prompt, **_: ["Red."] * len(prompt.mask))
    out = tmp_path / "out" / "predictions.jsonl"
    records = write_records(tmp_path / "data", 5)
    result = evaluate(model, records, batch_size=2, out=out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"s{index}" for index in range(5)]
    assert [line["correct"] for line in lines] == [record.answer == "red" for record in records]
    assert result.accuracy == sum(line["correct"] for line in lines) / 5
    assert lines[2]["modalities"] == ["main", "wave", "points"]
    assert result.tokens_per_answer == sum(line["num_tokens"] for line in lines) / 5


def test_choices_are_scored_and_open_questions_are_generated(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    records = [
        replace(record, choices=ANSWERS) if index % 2 else record
        for index, record in enumerate(write_records(tmp_path / "data", 4))
    ]
    seen: list[int] = []

    def score(prompt, choices):  # type: ignore[no-untyped-def]
        seen.append(len(choices))
        return [[float(text == "blue") for text in own] for own in choices]

    monkeypatch.setattr(model, "score_choices", score)
    monkeypatch.setattr(model, "generate", lambda prompt, **_: ["none"] * len(prompt.mask))
    result = evaluate(model, records)
    assert seen == [2]
    assert result.by_type["color"] == sum(record.answer == "blue" for record in records[1::2]) / 2
    assert result.by_type["side"] == 0.0


@pytest.mark.slow
def test_subsets_of_modalities_need_no_encoder_once_the_cache_is_filled(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 4)
    cache = FeatureCache(model)
    subsets = [(), ("main",), ("main", "wave"), model.names]
    plain = [evaluate(model, records, modalities=subset) for subset in subsets]
    evaluate(model, records, cache=cache)

    def refuse(batches):  # type: ignore[no-untyped-def]
        assert not batches
        return {}

    monkeypatch.setattr(model, "encode", refuse)
    kept = [evaluate(model, records, modalities=subset, cache=cache) for subset in subsets]
    assert [replace(result, duration_s=0.0) for result in plain] == [replace(result, duration_s=0.0) for result in kept]
    assert [result.modalities for result in kept] == subsets
    tokens = [result.tokens_per_answer for result in kept]
    assert tokens[0] < tokens[1] < tokens[2]
    evaluate(model, records, shuffle="wave", cache=cache)  # exchanged sources are the same files


def test_shuffling_changes_the_sources_and_is_told(new_model: MakeModel, tmp_path: Path) -> None:
    result = evaluate(new_model(), write_records(tmp_path / "data", 4), modalities=["main"], shuffle="main")
    assert (result.modalities, result.shuffled) == (("main",), "main")


def test_the_models_mode_is_left_as_it_was(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    model.train()
    evaluate(model, write_records(tmp_path / "data", 2))
    assert model.training


def test_unknown_modalities_are_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(UnknownModalityError, match="Did you mean 'wave'"):
        evaluate(new_model(), write_records(tmp_path / "data", 2), modalities=["wav"])


def test_shuffling_an_absent_modality_is_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as error:
        evaluate(new_model(), write_records(tmp_path / "data", 2), modalities=["main"], shuffle="wave")
    assert str(error.value) == (
        "shuffle='wave' takes no part in this evaluation. Taking part: main. Name one of these, or add it to "
        "modalities."
    )


def test_another_models_cache_is_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as error:
        evaluate(new_model(), write_records(tmp_path / "data", 2), cache=FeatureCache(new_model()))
    assert str(error.value) == (
        "The feature cache belongs to another model. Features come from a model's own encoders. Make one with "
        "FeatureCache(model)."
    )


def test_nothing_to_evaluate_is_refused(new_model: MakeModel) -> None:
    with pytest.raises(DataFileError) as error:
        evaluate(new_model(), [])
    assert str(error.value) == "There is nothing to evaluate: the data have no samples. Give at least one."


def test_bypassing_the_fusion_gives_every_modalities_own_tokens_and_leaves_the_model_as_it_was(
    new_model: MakeModel, tmp_path: Path
) -> None:
    model = new_model()
    records = write_records(tmp_path / "data", 4)
    fusion = model.fusion
    plain = evaluate(model, records)
    bypassed = evaluate(model, records, fusion="concat")
    assert (plain.fusion, bypassed.fusion) == ("model", "concat")
    assert plain.tokens_per_answer != bypassed.tokens_per_answer
    assert model.fusion is fusion
    with torch.no_grad():
        for parameter in model.fusion_parameters().values():
            parameter.zero_()
    assert replace(evaluate(model, records, fusion="concat"), duration_s=0.0) == replace(bypassed, duration_s=0.0)


@pytest.mark.parametrize("with_choices", [False, True])
def test_a_batch_is_fused_once(new_model: MakeModel, tmp_path: Path, with_choices: bool) -> None:
    model, calls = new_model(), []
    records = write_records(tmp_path / "data", 5)
    if with_choices:
        records = [replace(record, choices=ANSWERS) for record in records]
    model.fusion.register_forward_hook(lambda *_: calls.append(1))
    evaluate(model, records, batch_size=2)
    assert len(calls) == 3
    evaluate(model, records, batch_size=2, fusion="concat")  # another strategy is passed on; the model keeps its own
    assert len(calls) == 3


@pytest.mark.slow
def test_the_data_sets_wording_is_used_when_asked_for(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_songbirds()
    model = new_model()
    records = [replace(record, dataset="songbirds") for record in write_records(tmp_path / "data", 1)]
    asked: list[str] = []

    own = model.prompt

    def prompt(tokens, questions, **_):  # type: ignore[no-untyped-def]
        asked.extend(questions)
        return own(tokens, questions)

    monkeypatch.setattr(model, "prompt", prompt)
    evaluate(model, records)
    evaluate(model, records, prompts="dataset")
    assert asked == [
        "what is the color ?",
        "Listen. what is the color ? Name one bird.",
    ]


def test_measures_of_the_data_set_are_reported_and_reach_hooks(new_model: MakeModel, tmp_path: Path) -> None:
    register_songbirds()
    records = [replace(record, dataset="songbirds") for record in write_records(tmp_path / "data", 3)]
    result = evaluate(new_model(), records)
    assert set(result.measures) == {"words", "most_words"}
    assert result.metrics.keys() >= {"accuracy", "words"}
    assert result.scorers == ("last_word",)
    assert evaluate(new_model(), records, measures=()).measures == {}


def _questions(folder: Path, *, each: int) -> list[Record]:
    """Return questions about four samples' sources, chosen and open-ended ones, in no order."""
    records = [
        replace(record, id=f"{record.id}-{number}", choices=ANSWERS if number % 2 else ())
        for record in write_records(folder, 4)
        for number in range(each)
    ]
    random.Random(0).shuffle(records)
    return records


def _count_reading(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    read: Counter[str] = Counter()
    prepare = modality_calls.prepare

    def counted(modality, source):  # type: ignore[no-untyped-def]
        read[str(source)] += 1
        return prepare(modality, source)

    monkeypatch.setattr(modality_calls, "prepare", counted)
    return read


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_every_source_is_read_and_encoded_once_without_a_cache(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    model, records = new_model(), _questions(tmp_path / "data", each=5)
    cached = evaluate(model, records, batch_size=batch_size, cache=FeatureCache(model))
    read = _count_reading(monkeypatch)
    encoded: Counter[str] = Counter()
    encode = model.encode

    def counted(batches):  # type: ignore[no-untyped-def]
        encoded.update({name: len(batch.rows) for name, batch in batches.items()})
        return encode(batches)

    monkeypatch.setattr(model, "encode", counted)
    alone = evaluate(model, records, batch_size=batch_size)
    assert set(read) == {str(source) for record in records for source in record.sources.values()}
    assert set(read.values()) == {1}
    assert encoded.total() == read.total()
    assert replace(alone, duration_s=0.0) == replace(cached, duration_s=0.0)


@pytest.mark.slow
def test_what_is_kept_without_a_cache_is_bounded(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources that come again long after are read again: here by a second modality, whose sources are shuffled."""
    model, records = new_model(), write_records(tmp_path / "data", 12)
    waves = [record.sources["wave"] for record in records if "wave" in record.sources]
    again = [
        replace(record, id=f"{record.id}-again", sources=record.sources | {"wave": waves[-1 - number % 3]})
        for number, record in enumerate(records)
    ]
    sizes: list[int] = []
    complete = Window.complete

    def measured(self, batch, encoded):  # type: ignore[no-untyped-def]
        found = complete(self, batch, encoded)
        sizes.append(max(map(len, self._kept.values())))
        return found

    monkeypatch.setattr(Window, "complete", measured)
    evaluate(model, records + again, batch_size=1)
    assert max(sizes) <= KEPT_BATCHES
