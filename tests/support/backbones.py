"""Small random BLIP-2 checkpoints, saved in the real format and loaded by the real code."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from tests.support.checkpoints import draw_norms_and_biases

WORDS = (
    "frame audio depth map what is the color of question option a b c d e 1 2 3 4 5 6 7 8 : . ? , red blue green left "
    "right considering information presented in select correct answer from options modality one two wave grid points"
).split()


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with T5-like special tokens."""
    words = ["<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def save_random_blip2(folder: Path, *, language: str = "t5", seed: int = 0, width: int = 24) -> Path:
    """Save a random BLIP-2 model with a T5 or OPT language model `width` wide; returns the folder."""
    tokenizer = word_tokenizer()
    size = len(tokenizer)
    if language == "t5":
        text = T5Config(
            vocab_size=size,
            d_model=width,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=3,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=1,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    else:
        text = OPTConfig(
            vocab_size=size,
            hidden_size=width,
            word_embed_proj_dim=width,
            num_hidden_layers=2,
            num_attention_heads=3,
            ffn_dim=32,
            max_position_embeddings=256,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
            dropout=0.0,
        )
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            vocab_size=size,
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            encoder_hidden_size=16,
            cross_attention_frequency=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ).to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=5,
    )
    torch.manual_seed(seed)
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        model.query_tokens.normal_()
        for parameter in model.language_model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    draw_norms_and_biases(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
