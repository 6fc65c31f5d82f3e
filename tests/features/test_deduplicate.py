"""Questions about one source share its encoding and its tokens, and get the answers they would get alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crema_core.api.model import CremaModel
from crema_core.features.deduplicate import sharing
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale

WORDS = ("what is it ?", "what color ?", "which sound ?")


def clips(model: CremaModel, count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    made = [{name: model.branch(name).modality.example(generator) for name in model.names} for _ in range(count)]
    del made[1]["wave"]  # a clip without one of the modalities
    return made


@given(st.lists(st.sampled_from("abcd")))
def test_every_row_finds_the_first_of_its_own_source(keys: list[str]) -> None:
    found = sharing(keys)
    assert [keys[found.firsts[own]] for own in found.owner] == keys
    assert found.firsts == sorted(keys.index(key) for key in set(keys))


@pytest.mark.slow
@pytest.mark.parametrize("choices", [None, ["red", "blue"]])
def test_six_questions_about_two_clips_run_each_encoder_and_adapter_on_two(
    choices: list[str] | None, model: CremaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"question": word, "choices": choices, **clip} for clip in clips(model, 2) for word in WORDS]
    alone = [model.answer_many([item])[0] for item in items]
    encoded: list[dict[str, int]] = []
    computed: list[tuple[str, int]] = []
    encode, modality_tokens = CremaModel.encode, CremaModel.modality_tokens

    def counting_encode(self: CremaModel, batches: Any) -> Any:
        encoded.append({name: len(batch.rows) for name, batch in batches.items()})
        return encode(self, batches)

    def counting_tokens(self: CremaModel, name: str, features: Any, questions: Any = None) -> Any:
        computed.append((name, len(features.rows)))
        return modality_tokens(self, name, features, questions)

    monkeypatch.setattr(CremaModel, "encode", counting_encode)
    monkeypatch.setattr(CremaModel, "modality_tokens", counting_tokens)
    together = model.answer_many(items)
    assert encoded == [{"main": 2, "other": 2, "wave": 1, "points": 2}]
    assert computed == [("main", 2), ("other", 2), ("wave", 1), ("points", 2)]
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.used) == (other.text, other.used)
        assert one.scores.keys() == other.scores.keys()
        scores = (torch.tensor([*own.scores.values()]) for own in (one, other))
        assert_close_to_scale(*scores, ulps=MODEL_ULPS)


def test_sources_given_as_files_are_shared_by_path_and_objects_by_identity(
    model: CremaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model.branch("wave").modality.example(torch.Generator().manual_seed(1))
    prepared: list[object] = []
    prepare = type(model.branch("wave").modality).prepare

    def counting(self: Any, given: Any) -> Any:
        prepared.append(given)
        return prepare(self, source)

    monkeypatch.setattr(type(model.branch("wave").modality), "prepare", counting)
    equal = source.clone()
    items = [{"question": "what ?", "wave": own} for own in ("a.wav", source, "b.wav", "a.wav", equal, source)]
    model.answer_many(items)
    assert [own if isinstance(own, str) else id(own) for own in prepared] == ["a.wav", id(source), "b.wav", id(equal)]
