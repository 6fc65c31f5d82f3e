"""Sharing the encoder's keys and values between beams changes no answer."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from crema_core.model.language import beam_inputs


def model(seed: int) -> T5ForConditionalGeneration:
    torch.manual_seed(seed)
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
                      feed_forward_proj="gated-gelu", decoder_start_token_id=0)  # fmt: skip
    made = T5ForConditionalGeneration(config).eval()
    for parameter in made.parameters():  # large weights, so that each sample has an answer of its own
        torch.nn.init.normal_(parameter, std=0.5)
    return made


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_beam_search_gives_the_same_sequences(seed: int) -> None:
    language = model(seed)
    embeds = torch.randn(3, 9, 16)
    mask = torch.ones(3, 9, dtype=torch.int64)
    mask[0, 5:] = 0
    settings = {"max_new_tokens": 7, "num_beams": 4, "do_sample": False, "length_penalty": -1.0,
                "output_scores": True, "return_dict_in_generate": True}  # fmt: skip
    plain = language.generate(inputs_embeds=embeds, attention_mask=mask, **settings)
    shared = language.generate(**beam_inputs(language, embeds, mask, 4), **settings)
    assert torch.equal(shared.sequences, plain.sequences)
    assert torch.allclose(shared.sequences_scores, plain.sequences_scores, atol=1e-5)
    assert len(set(map(tuple, plain.sequences.tolist()))) > 1  # samples do not all get one answer


@torch.no_grad()
def test_the_encoders_keys_are_computed_once_per_sample() -> None:
    language = model(0)
    seen: list[tuple[int, ...]] = []
    for block in language.decoder.block:
        block.layer[1].EncDecAttention.k.register_forward_hook(
            lambda module, args, output: seen.append(tuple(args[0].shape))
        )
    embeds, mask = torch.randn(3, 9, 16), torch.ones(3, 9, dtype=torch.int64)
    language.generate(**beam_inputs(language, embeds, mask, 4), max_new_tokens=5, num_beams=4, do_sample=False)
    assert seen == [(3, 9, 16)] * 2  # once in each of two layers, for three samples and not for twelve beams
