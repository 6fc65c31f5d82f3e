"""What `answer` refuses, in whole words."""

from __future__ import annotations

import pytest
import torch

from crema_core.api.model import CremaModel
from crema_core.errors import OptionsError, UnknownModalityError


def test_a_source_of_an_unknown_modality_is_refused_with_the_nearest_name(model: CremaModel) -> None:
    with pytest.raises(UnknownModalityError) as caught:
        model.answer("what ?", wavs=torch.randn(1, 3, 10))
    assert str(caught.value) == (
        "This model has no modality 'wavs'. It has: main, other, wave, points. Did you mean 'wave'? "
        "Add one with model.add_modality('wavs')."
    )


def test_a_question_without_sources_is_refused(model: CremaModel) -> None:
    with pytest.raises(OptionsError) as caught:
        model.answer("what ?")
    assert str(caught.value) == (
        "The question 'what ?' comes without any source. Accepted: one or more of main, other, wave, points. "
        "Pass one of them, for example main='FILE'."
    )


def test_an_empty_question_is_refused(model: CremaModel) -> None:
    with pytest.raises(OptionsError) as caught:
        model.answer("", wave=torch.randn(1, 3, 10))
    assert str(caught.value) == (
        "An item has no question. Each item needs 'question' and at least one source. Write {'question': '...', ...}."
    )


def test_answering_leaves_the_model_in_the_mode_it_was_in(model: CremaModel) -> None:
    model.train()
    model.answer("what ?", wave=torch.randn(1, 3, 10))
    assert model.training


def test_questions_with_and_without_choices_in_one_batch_are_fused_once(model: CremaModel) -> None:
    calls: list[int] = []
    handle = model.fusion.register_forward_hook(lambda *_: calls.append(1))
    wave = torch.randn(1, 3, 10)
    items = [{"question": "what ?", "wave": wave}, {"question": "what ?", "choices": ["red", "blue"], "wave": wave}]
    answers = model.answer_many(items)
    handle.remove()
    assert len(calls) == 1
    assert [len(answer.scores) for answer in answers] == [0, 2]
