"""Generated answers equal the released code's, with the settings it uses."""

from __future__ import annotations

import pytest
import torch

from tests.golden.test_forward import CASES
from tests.support.golden import Case, load_case


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load_case(request.param, tmp_path_factory.getbasetemp() / f"golden-{request.param}")


def test_beam_searched_answers(case: Case) -> None:
    texts = case.model.generate(
        case.model.prompt(case.tokens(), case.questions), max_new_tokens=10, num_beams=5, length_penalty=-1.0
    )
    assert texts == [text.strip() for text in case.about["generation"]["oeqa_text"]]


def test_multiple_choice_picks_the_released_codes_letters(case: Case) -> None:
    scores = case.model.score_choices(
        case.model.prompt(case.tokens(), case.questions), [list("abcde")] * len(case.questions)
    )
    _, letters = case.model.language.letter_ids(5)
    raw = case.tensors["gen.mcqa_scores_step1"][:, letters].log_softmax(-1)
    torch.testing.assert_close(torch.tensor(scores), raw, atol=1e-5, rtol=0)
