"""The frozen language model: losses, letters and likelihoods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Blip2ForConditionalGeneration, GenerationConfig

from crema_core.errors import DataFileError, OptionsError
from crema_core.model.language import Language, by_length
from crema_core.model.load_backbone import load_backbone
from crema_core.model.prompt import Prompt, assemble, pack
from crema_core.model.template import PromptTemplate

QUESTIONS = ["what is the color of a ?", "left or right"]


@pytest.fixture(params=["t5", "opt"])
def language(request: pytest.FixtureRequest, t5_folder: Path, opt_folder: Path) -> Language:
    backbone = load_backbone(t5_folder if request.param == "t5" else opt_folder)
    return Language(backbone.language_model, backbone.tokenizer)


def prompt_of(language: Language, questions: list[str]) -> Prompt:
    return assemble([], questions, chat_format=language.chat_format, embedding=language.embedding, side=language.side)


def test_the_loss_is_the_one_transformers_computes_from_token_ids(t5_folder: Path) -> None:
    backbone = load_backbone(t5_folder)
    language = Language(backbone.language_model, backbone.tokenizer)
    ours = language.loss(prompt_of(language, QUESTIONS), ["red", "left blue"])
    reference = Blip2ForConditionalGeneration.from_pretrained(t5_folder).language_model.eval()
    inputs = backbone.tokenizer(QUESTIONS, return_tensors="pt", padding=True)
    labels = language.answer_ids(["red", "left blue"])
    theirs = reference(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_likelihood_scores_are_the_mean_log_probability_of_each_choice(language: Language) -> None:
    prompt = prompt_of(language, QUESTIONS)
    scores = language.likelihood_scores(prompt, [["red", "left blue"], ["green"]])
    for row, choices in enumerate([["red", "left blue"], ["green"]]):
        for index, choice in enumerate(choices):
            alone = Prompt(prompt.embeds[row : row + 1], prompt.mask[row : row + 1])
            assert scores[row][index] == pytest.approx(-language.loss(alone, [choice]).item(), abs=2e-5)


def test_choices_with_equal_tokens_are_scored_once_and_tie_to_the_bit(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, rows = language.logits, []

    def logits(prompt: Prompt, answers_BA: torch.Tensor) -> torch.Tensor:
        rows.append(len(answers_BA))
        return plain(prompt, answers_BA)

    monkeypatch.setattr(language, "logits", logits)
    prompt = prompt_of(language, QUESTIONS)
    choices = [["red", "Red", "left blue", "red"], ["green", "left", "Green"]]
    same = language.answer_ids(["red"]).equal(language.answer_ids(["Red"]))  # both kinds write in lower case
    scores = language.likelihood_scores(prompt, choices)
    assert same
    assert rows == [4]
    assert [len(row) for row in scores] == [4, 3]
    assert scores[0][0] == scores[0][1] == scores[0][3] != scores[0][2]
    assert scores[1][0] == scores[1][2] != scores[1][1]
    alone = language.likelihood_scores(prompt, [["red", "left blue"], ["green", "left"]])
    assert alone == [[scores[0][0], scores[0][2]], scores[1][:2]]


def test_a_choice_that_begins_another_has_a_score_of_its_own(language: Language) -> None:
    ((short, long),) = language.likelihood_scores(prompt_of(language, QUESTIONS[:1]), [["red", "red ball"]])
    assert short != long


@pytest.mark.parametrize("kind", ["t5", "opt"])
def test_of_the_settings_of_generation_only_the_token_ids_of_a_checkpoint_are_kept(
    t5_folder: Path, opt_folder: Path, kind: str
) -> None:
    backbone = load_backbone(t5_folder if kind == "t5" else opt_folder)
    model = backbone.language_model
    model.generation_config = GenerationConfig(
        bos_token_id=7, forced_eos_token_id=8, decoder_start_token_id=9, pad_token_id=10, repetition_penalty=3.0,
        temperature=0.3, do_sample=True, num_beams=4, max_new_tokens=2,
    )  # fmt: skip
    language = Language(model, backbone.tokenizer)
    found, plain = language.model.generation_config, GenerationConfig()
    assert (found.bos_token_id, found.forced_eos_token_id) == (7, 8)
    assert found.eos_token_id == list(language.chat_format.stops)
    assert found.pad_token_id == backbone.tokenizer.pad_token_id
    # A decoder of its own begins as in the pass that the loss is computed in.
    assert found.decoder_start_token_id == (model.config.decoder_start_token_id if kind == "t5" else 9)
    for key in ("repetition_penalty", "temperature", "do_sample", "num_beams", "max_new_tokens"):
        assert getattr(found, key) == getattr(plain, key), key


def test_letter_scores_are_normalised_over_the_letters(language: Language) -> None:
    scores = language.letter_scores(prompt_of(language, QUESTIONS), 3)
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(2))


def test_letter_ids_are_read_from_the_tokenizer(language: Language) -> None:
    common, letters = language.letter_ids(3)
    assert language.tokenizer.convert_ids_to_tokens(common) == ["option"]
    assert language.tokenizer.convert_ids_to_tokens(letters) == ["a", "b", "c"]


def test_letters_the_tokenizer_does_not_know_are_refused(language: Language) -> None:
    with pytest.raises(OptionsError) as caught:
        language.letter_ids(9)
    assert str(caught.value) == (
        "This tokenizer gives 9 answer letters no ids of their own. Letter scoring needs one id per letter. "
        "Use choice_scoring='likelihood'."
    )


def test_packing_moves_real_tokens_together_and_keeps_their_order() -> None:
    embeds = torch.arange(1.0, 9.0).reshape(2, 4, 1)
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    right = pack(Prompt(embeds, mask))
    assert right.embeds.squeeze(-1).tolist() == [[1, 3, 4], [6, 0, 0]]
    assert right.mask.tolist() == [[True] * 3, [True, False, False]]
    left = pack(Prompt(embeds, mask), side="left")
    assert left.embeds.squeeze(-1).tolist() == [[1, 3, 4], [0, 0, 6]]
    assert left.mask.tolist() == [[True] * 3, [False, False, True]]


def test_the_template_letters_the_options_and_names_the_target() -> None:
    template = PromptTemplate()
    assert template.render("Why?", ["a dog", "a cat"]) == (
        "Question: Why? Option A: a dog Option B: a cat Considering the information presented in the frame, select "
        "the correct answer from the options."
    )
    assert template.target("a cat", ["a dog", "a cat"]) == "Option B"
    assert template.render("Why?") == "Why?"
    assert template.target("so") == "so"


def test_an_answer_outside_its_choices_is_refused() -> None:
    with pytest.raises(DataFileError) as caught:
        PromptTemplate().target("a cow", ["a dog", "a cat"])
    assert str(caught.value) == (
        "The answer 'a cow' is not among the choices ['a dog', 'a cat']. The answer must be written exactly as one of "
        "them. Correct the line."
    )


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_rows_are_split_by_length_only_where_it_saves_a_quarter(lengths: list[int]) -> None:
    groups = by_length(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    if len(groups) == 2:
        short, long = ([lengths[row] for row in group] for group in groups)
        assert max(short) <= min(long)
        assert max(short) * len(short) + max(long) * len(long) <= 0.75 * max(lengths) * len(lengths)


def test_short_and_long_answers_have_the_loss_of_one_padded_pass(t5_folder: Path) -> None:
    backbone = load_backbone(t5_folder)
    language = Language(backbone.language_model, backbone.tokenizer)
    answers = ["red", "left right left right one two three four five six", "blue", "a dog", "no"]
    assert len(by_length([int((row != -100).sum()) for row in language.answer_ids(answers)])) == 2
    embeds = torch.randn(5, 7, language.embedding.get_parameter("weight").shape[1], requires_grad=True)
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[1, 4:] = False
    found = language.loss(Prompt(embeds, mask), answers)
    (gradient,) = torch.autograd.grad(found, embeds)
    ids = language.answer_ids(answers)
    expected = torch.nn.functional.cross_entropy(
        language.logits(Prompt(embeds, mask), ids).flatten(0, 1), ids.flatten(), ignore_index=-100
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, embeds)[0])


def test_in_step_every_pass_has_a_backward_pass_and_the_same_values(language: Language) -> None:
    prompt, answers = prompt_of(language, QUESTIONS), torch.tensor([[5], [6]])
    alone = language.logits(prompt, answers)
    assert not alone.requires_grad
    language.in_step = True
    together = language.logits(prompt, answers)
    assert together.requires_grad
    assert torch.equal(together, alone)
    with torch.no_grad():
        assert torch.equal(language.logits(prompt, answers), alone)


def test_in_step_answers_of_all_lengths_make_one_pass(t5_folder: Path) -> None:
    backbone = load_backbone(t5_folder)
    language, passes = Language(backbone.language_model, backbone.tokenizer), []
    language.model.register_forward_hook(lambda *_: passes.append(1))
    questions = ["what ?"] * 4
    answers = ["red", "left right left right one two three four five six", "blue", "a dog"]
    apart = language.loss(prompt_of(language, questions), answers)
    assert len(passes) == 2
    language.in_step = True
    torch.testing.assert_close(language.loss(prompt_of(language, questions), answers), apart)
    assert len(passes) == 3
