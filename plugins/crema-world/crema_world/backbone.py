"""The shape of crema-tiny: a small BLIP-2 (ViT, Q-Former, T5) in the ordinary transformers classes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    GenerationConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from crema_core.model.checkpoint import BACKBONE, TEMPLATE
from crema_world.scene import IMAGE_SIZE
from crema_world.vocabulary import IMAGE_TOKEN_ID, make_tokenizer

WIDTH = 96
NUM_QUERIES = 8
IMAGE_MEAN = (0.5, 0.5, 0.5)
IMAGE_STD = (0.5, 0.5, 0.5)


def make_config(vocab_size: int) -> Blip2Config:
    """Describe the architecture: 64 x 64 images in patches of 8, 8 queries, 96 wide everywhere, no dropout."""
    vision = Blip2VisionConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3, num_attention_heads=4,
        image_size=IMAGE_SIZE, patch_size=8, attention_dropout=0.0, initializer_range=0.02,
    )  # fmt: skip
    qformer = Blip2QFormerConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4, num_attention_heads=4,
        cross_attention_frequency=2, encoder_hidden_size=WIDTH, vocab_size=vocab_size,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    text = T5Config(
        vocab_size=vocab_size, d_model=WIDTH, d_kv=24, d_ff=256, num_layers=2, num_decoder_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", dropout_rate=0.0, relative_attention_max_distance=64,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=text.to_dict() | {"decoder_start_token_id": 0},
        num_query_tokens=NUM_QUERIES,
        image_token_index=IMAGE_TOKEN_ID,
    )


def new_backbone(*, seed: int) -> tuple[Blip2ForConditionalGeneration, PreTrainedTokenizerFast]:
    """Make the untrained model and its tokenizer; the same seed makes the same weights."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)  # transformers initialises from the global generator
    model = Blip2ForConditionalGeneration(make_config(len(tokenizer)))
    torch.nn.init.normal_(model.query_tokens, std=0.5)  # zeros would keep all queries equal
    return model, tokenizer


def save_backbone(model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, configuration, tokenizer and image processor as `from_pretrained` reads them."""
    model.generation_config = GenerationConfig(
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, max_new_tokens=60
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    BlipImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, image_mean=list(IMAGE_MEAN), image_std=list(IMAGE_STD)
    ).save_pretrained(folder)
    # The language model never saw lettered options; each choice's own text is scored.
    (folder / TEMPLATE).write_text('{\n  "choice_scoring": "likelihood"\n}\n')
    (folder / BACKBONE).write_text('{\n  "pretrained": false\n}\n')
