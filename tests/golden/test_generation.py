"""Generated answers equal the released code's, with the settings it uses."""

from __future__ import annotations

import pytest
import torch

from tests.support.golden import Case, load_case  # first: it skips where the released format cannot be read

from tests.golden.test_forward import CASES  # isort: skip
from tests.support.numeric import assert_close_to_scale, double_precision


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load_case(request.param, tmp_path_factory.getbasetemp() / f"golden-{request.param}", dtype=torch.float64)


def test_beam_searched_answers(case: Case) -> None:
    texts = case.model.generate(
        case.model.prompt(case.tokens(), case.questions), max_new_tokens=10, num_beams=5, length_penalty=-1.0
    )
    assert texts == [text.strip() for text in case.about["generation"]["oeqa_text"]]


def test_multiple_choice_picks_the_released_codes_letters(case: Case) -> None:
    with double_precision():
        prompt = case.model.prompt(case.tokens(), case.questions)
        scores = case.model.score_choices(prompt, [list("abcde")] * len(case.questions))
    _, letters = case.model.language.letter_ids(5)
    raw = case.tensors["gen.mcqa_scores_step1"][:, letters].log_softmax(-1)
    assert_close_to_scale(torch.tensor(scores, dtype=torch.float64), raw)
