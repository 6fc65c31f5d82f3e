"""What stands where in a prompt, and which positions by time, row and column travel with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from crema_core.model.chat_format import ChatFormat
from crema_core.model.language import IGNORED, Language
from crema_core.model.load_backbone import load_backbone
from crema_core.model.prompt import Prompt, assemble
from crema_core.tokens import Segment
from tests.support.tokenizers import save_tokenizer

WIDTH = 4
MASK = torch.tensor([[True, True], [True, False], [False, False]])
"""Steps of a clip that three samples have: both, the first, none."""


class CountedByPart:
    """Gives every token the number of its part, its place in it and its sample."""

    def __init__(self) -> None:
        self.clips: list[Segment | None] = []

    def count(self, parts: Sequence[tuple[Tensor, Segment | None]]) -> Tensor:
        self.clips = [clip for _, clip in parts]
        own = [(part, place) for part, (mask, _) in enumerate(parts) for place in range(mask.shape[1])]
        rows = [[(*one, row) for one in own] for row in range(parts[0][0].shape[0])]
        return torch.tensor(rows, dtype=torch.int64)


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(str(save_tokenizer(tmp_path / "tokenizer", "qwen")))


@pytest.fixture
def embedding(tokenizer: PreTrainedTokenizerFast) -> nn.Embedding:
    return nn.Embedding(len(tokenizer), WIDTH, dtype=torch.float64)


def clip(*, grid: tuple[int, int] | None = (1, 2), prefix: str | None = None) -> Segment:
    values = torch.arange(1.0, 1 + 3 * 2 * 2 * WIDTH, dtype=torch.float64).reshape(3, 2, 2, WIDTH)
    return Segment(values, MASK, prefix, grid=grid)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_clip_stands_between_its_marks_and_its_positions_move_with_its_tokens(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding, side: Any
) -> None:
    axes, segment = CountedByPart(), clip()
    chat = ChatFormat(tokenizer, 0, (), prefix=(4,), opening=(5, 6), closing=(7,), own_specials=False)
    questions = ["what", "what is", "is it"]
    prompt = assemble([segment], questions, chat_format=chat, embedding=embedding, side=side, axes=axes)
    assert [one is segment for one in axes.clips] == [False, False, True, False, False]
    assert prompt.positions is not None
    for row, question in enumerate(questions):
        text = chat.question_ids(question)
        steps = list(segment.values[row][MASK[row]].flatten(0, 1))
        marked = [*embedding.weight[[5, 6]], *steps, embedding.weight[7]] if steps else []
        expected = torch.stack([embedding.weight[4], *marked, *embedding.weight[text]])
        shown = [(1, 0), (1, 1), *((2, place) for place in range(len(steps))), (3, 0)] if steps else []
        places = [(0, 0), *shown, *((4, place) for place in range(len(text)))]
        real = prompt.mask[row]
        assert real.tolist() == sorted(real.tolist(), reverse=side == "right")
        assert torch.equal(prompt.embeds[row][real], expected)
        assert prompt.positions[row][real].tolist() == [[*place, row] for place in places]
        assert not prompt.embeds[row][~real].any()
    turned = prompt.select(torch.tensor([2, 0]))
    assert turned.ids is None
    for one, whole in zip(turned[:3], prompt[:3], strict=True):
        assert one is not None
        assert whole is not None
        assert torch.equal(one, whole[[2, 0]])


@pytest.mark.parametrize("segments", [[], [clip(grid=None)], [clip(prefix="Frame {index}: ")]])
def test_prompts_without_a_clip_have_no_positions(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding, segments: list[Segment]
) -> None:
    chat, questions = ChatFormat(tokenizer, 0, ()), ["what", "is it", "left"]
    assert assemble(segments, questions, chat_format=chat, embedding=embedding, axes=CountedByPart()).positions is None


def test_a_language_model_that_counts_one_by_one_has_no_positions_of_a_clip(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding
) -> None:
    chat, questions = ChatFormat(tokenizer, 0, ()), ["what", "is it", "left"]
    assert assemble([clip()], questions, chat_format=chat, embedding=embedding).positions is None


@pytest.fixture
def language(opt_folder: Path) -> Language:
    """A decoder-only model that would count by three axes."""
    backbone = load_backbone(opt_folder)
    return Language(backbone.language_model, backbone.tokenizer, axes=CountedByPart())


def with_positions(language: Language) -> Prompt:
    """Return a prompt of two samples whose first axis is the ordinary count; row and column are 10 and 20 more."""
    width = next(language.embedding.parameters()).shape[1]
    prompt = language.prompt([Segment(torch.randn(2, 2, 2, width), MASK[:2], None, grid=(1, 2))], ["what is it ?"] * 2)
    assert prompt.positions is not None
    plain = (prompt.mask.long().cumsum(1) - 1).clamp(min=0)
    return prompt._replace(positions=torch.stack([plain, plain + 10, plain + 20], dim=-1))


def test_three_positions_reach_the_language_model_and_continue_behind_the_prompt(language: Language) -> None:
    prompt, answers = with_positions(language), torch.tensor([[5, 6], [7, IGNORED]])
    expected = language.logits(prompt._replace(positions=None), answers)
    received: list[Tensor] = []

    def first_axis(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        received.append(named["position_ids"])
        return args, {**named, "position_ids": named["position_ids"][0]}

    handle = language.model.register_forward_pre_hook(first_axis, with_kwargs=True)
    found = language.logits(prompt, answers)
    handle.remove()
    assert torch.equal(found, expected)
    length = int(prompt.mask[0].sum())
    assert received[0][:, 0, -2:].tolist() == [[length + own, length + own + 1] for own in (0, 10, 20)]


def test_generation_begins_with_three_positions_where_there_are_any(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Tensor | None] = []

    def generate(**named: Any) -> Any:
        received.append(named.get("position_ids"))
        if named.get("return_dict_in_generate"):
            return SimpleNamespace(logits=[torch.zeros(2, 100)])
        return torch.zeros(2, 1, dtype=torch.int64)

    monkeypatch.setattr(language.model, "generate", generate)
    prompt = with_positions(language)
    assert prompt.positions is not None
    for one in (prompt, prompt._replace(positions=None)):
        language.generate(one, max_new_tokens=1)
        language.released_letter_scores(one, 2)
    for given in received[:2]:
        assert given is not None
        assert torch.equal(given, prompt.positions.permute(2, 0, 1))
    assert received[2:] == [None, None], "generation counts by itself"
