"""Beam search of an encoder-decoder without work that all beams of a sample share.

transformers repeats a sample's encoder output for every beam, computes the cross-attention keys and values of each
copy, and moves all of them at every step when beams change places. They are equal, so here they are computed once per
sample, repeated once, and never moved.

Shape letters: B samples, S prompt length, L width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel


class SharedEncoderCache(EncoderDecoderCache):
    """Keys and values where the beams of a sample differ only in what was decoded."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Move the decoded part alone: a beam only changes places with one of the same sample."""
        self.self_attention_cache.reorder_cache(cast(Any, beam_idx))


def beam_inputs(model: PreTrainedModel, embeds_BSL: Tensor, mask_BS: Tensor, num_beams: int) -> dict[str, Any]:
    """Return arguments for `model.generate` in which the encoder and its keys and values are computed already.

    Args:
        model: an encoder-decoder.
        embeds_BSL: `(B, S, L)` prompts.
        mask_BS: `(B, S)` int64, 0 where padded.
        num_beams: beams per sample.
    """
    encoded = cast(Any, model.get_encoder())(inputs_embeds=embeds_BSL, attention_mask=mask_BS)
    cross = DynamicCache()
    start = torch.full_like(mask_BS[:, :1], cast(Any, model.config).decoder_start_token_id)
    # One decoder step fills the cross-attention part; what it decodes is not used.
    cast(Any, model.get_decoder())(
        input_ids=start,
        encoder_hidden_states=encoded.last_hidden_state,
        encoder_attention_mask=mask_BS,
        past_key_values=EncoderDecoderCache(DynamicCache(), cross),
        use_cache=True,
    )
    cross.batch_repeat_interleave(num_beams)
    cache = SharedEncoderCache(DynamicCache(), cross)
    return {"encoder_outputs": encoded, "attention_mask": mask_BS, "past_key_values": cache}
