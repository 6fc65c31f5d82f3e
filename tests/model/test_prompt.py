"""What stands where in a prompt: the text around it, the steps a sample has, then its question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from crema_core.model.chat_format import ChatFormat
from crema_core.model.prompt import assemble
from crema_core.tokens import Segment
from tests.support.tokenizers import save_tokenizer

WIDTH, SOFT_TOKEN = 4, 3
MASK = torch.tensor([[True, True], [True, False], [False, False]])
"""Steps of a clip that three samples have: both, the first, none."""


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(str(save_tokenizer(tmp_path / "tokenizer", "qwen")))


@pytest.fixture
def embedding(tokenizer: PreTrainedTokenizerFast) -> nn.Embedding:
    return nn.Embedding(len(tokenizer), WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("prefix", [None, "Frame {index}: "])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_is_the_chats_begin_the_steps_a_sample_has_and_its_question(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding, side: Any, prefix: str | None
) -> None:
    values = torch.arange(1.0, 1 + 3 * 2 * 2 * WIDTH, dtype=torch.float64).reshape(3, 2, 2, WIDTH)
    chat = ChatFormat(tokenizer, 0, (), prefix=(4,), own_specials=False)
    questions = ["what", "what is", "is it"]
    prompt = assemble(
        [Segment(values, MASK, prefix)],
        questions,
        chat_format=chat,
        embedding=embedding,
        side=side,
        soft_token=SOFT_TOKEN,
    )
    assert prompt.ids is not None
    for row, question in enumerate(questions):
        expected, ids = [embedding.weight[4]], [4]
        for step in range(int(MASK[row].sum())):
            said = "" if prefix is None else prefix.format(index=step + 1)
            own = tokenizer(said, add_special_tokens=False)["input_ids"]
            expected += [*embedding.weight[own], *values[row, step]]
            ids += [*own, SOFT_TOKEN, SOFT_TOKEN]
        asked = chat.question_ids(question)
        real = prompt.mask[row]
        assert real.tolist() == sorted(real.tolist(), reverse=side == "right")
        assert torch.equal(prompt.embeds[row][real], torch.stack([*expected, *embedding.weight[asked]]))
        assert not prompt.embeds[row][~real].any()
        assert prompt.ids.ids[row][real].tolist() == [*ids, *asked]
        assert int(prompt.ids.placed[row].sum()) == 2 * int(MASK[row].sum())


def test_samples_of_a_prompt_are_selected_with_all_that_is_theirs(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding
) -> None:
    segment = Segment(torch.ones(3, 2, 2, WIDTH, dtype=torch.float64), MASK, None)
    chat, questions = ChatFormat(tokenizer, 0, ()), ["what", "is it", "left"]
    vectors = assemble([segment], questions, chat_format=chat, embedding=embedding)
    given = assemble([segment], questions, chat_format=chat, embedding=embedding, soft_token=SOFT_TOKEN)
    rows = torch.tensor([2, 0])
    assert vectors.select(rows).ids is None
    found = given.select(rows)
    assert found.ids is not None
    assert given.ids is not None
    pairs = [(found.embeds, given.embeds), (found.mask, given.mask)]
    pairs += [(getattr(found.ids, name), getattr(given.ids, name)) for name in ("ids", "placed", "own")]
    for own, whole in pairs:
        assert torch.equal(own, whole[rows])
