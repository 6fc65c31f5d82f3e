"""Backbones as shapes alone have the parameters of the real ones, in no memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Blip2Config, Blip2ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from crema_core.model.shapes import shape_model, shape_tokenizer, shapes_alone


def sizes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, one that is used twice once."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", ["t5", "opt"])
def test_a_shape_has_the_parameters_of_the_model_and_ties_the_same_ones(
    t5_folder: Path, opt_folder: Path, kind: str
) -> None:
    folder = t5_folder if kind == "t5" else opt_folder
    real = Blip2ForConditionalGeneration.from_pretrained(folder)
    shape = shape_model(Blip2ForConditionalGeneration, Blip2Config.from_pretrained(folder), dtype=torch.bfloat16)
    # FlanT5 has an output layer of its own; the small one was saved without.
    output = {"language_model.lm_head.weight": tuple(real.language_model.lm_head.weight.shape)} if kind == "t5" else {}
    assert sizes(shape) == sizes(real) | output
    assert all(parameter.untyped_storage().nbytes() <= 4 for parameter in shape.parameters())
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in shape.parameters())
    full = {name for name, parameter in shape.named_parameters() if parameter.dtype == torch.float32}
    between = ("qformer.", "language_projection.", "query_tokens")
    assert full == {name for name in sizes(real) if name.startswith(between)}
    assert {parameter.dtype for name, parameter in shape.named_parameters() if name not in full} == {torch.bfloat16}
    assert all(torch.equal(own, theirs) for own, theirs in zip(shape.buffers(), real.buffers(), strict=True))


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_alone_ties_its_embedding_as_its_configuration_states(tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    shape = shape_model(LlamaForCausalLM, config, dtype=torch.float16)
    assert sizes(shape) == sizes(LlamaForCausalLM(config))
    assert (shape.lm_head.weight is shape.model.embed_tokens.weight) == tied


def test_parameters_that_a_module_had_before_keep_their_values() -> None:
    module = nn.Sequential(nn.Linear(2, 3))
    before = module[0].weight.detach().clone()
    with shapes_alone(module):
        module.append(nn.Linear(3, 400, dtype=torch.float64))
    assert torch.equal(module[0].weight, before)
    assert module[0].weight.requires_grad
    weight = module[1].weight
    assert (weight.shape, weight.dtype, weight.requires_grad) == ((400, 3), torch.float64, False)
    assert weight.untyped_storage().nbytes() == 8
    assert not module[1](torch.ones(1, 3, dtype=torch.float64)).any()


def test_the_stand_in_tokenizer_counts_words_digits_and_signs() -> None:
    tokenizer = shape_tokenizer()
    assert len(tokenizer("Is it 12, or no?")["input_ids"]) == len(["Is", "it", "1", "2", ",", "or", "no", "?", "</s>"])
    assert tokenizer("yes", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
