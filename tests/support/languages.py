"""Language models of transformers with few narrow layers and random weights, one for each kind that is compared.

`save_language_model(folder, kind)` writes configuration, weights and a byte-level tokenizer without a chat template.
Weights are drawn wide, so that a wrong position, mask or token shows in the logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.support.tokenizers import save_tokenizer
from tests.support.vlm import draw

_TWO_KINDS: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
_LINEAR: dict[str, Any] = {
    "num_hidden_layers": 4,
    "head_dim": 32,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
_MAMBA2: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
_T5: dict[str, Any] = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_layers": 2}
_T5_GEMMA: dict[str, Any] = {
    "vocab_size": 616,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_MLA: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
}
_ROUTED: dict[str, Any] = {**_EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
_GEMMA = {**_TWO_KINDS, "head_dim": 8, "query_pre_attn_scalar": 8}
_BY_LAYER: dict[str, Any] = {
    **_GEMMA,
    "num_hidden_layers": 4,
    "layer_types": _TWO_KINDS["layer_types"] * 2,
    "vocab_size_per_layer_input": 616,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 2,
}
_BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
LANGUAGE_KINDS: Mapping[str, Mapping[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "bamba": {**_MAMBA2, "attn_layer_indices": [1], "mamba_chunk_size": 8},
    "bart": _BART,
    "bloom": {"n_head": 4, "n_layer": 2},
    "cohere": {},
    "cohere2": _TWO_KINDS,
    "deepseek_v2": {**_ROUTED, **_MLA},
    "deepseek_v3": {**_ROUTED, **_MLA},
    "ernie4_5": {},
    "exaone4": _TWO_KINDS,
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 64, "mamba_chunk_size": 8, "head_dim": 8},
    "falcon_mamba": {"state_size": 8},
    "gemma": {"head_dim": 8},
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gemma3n_text": {
        **_BY_LAYER,
        "intermediate_size": [48] * 4,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
    },
    "gemma4_text": {**_BY_LAYER, "global_head_dim": 8},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "glm4_moe": {**_ROUTED, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 1024},
    "gpt_neox": {},
    "gpt_oss": {**_TWO_KINDS, **_EXPERTS, "head_dim": 8},
    "granite": {"attention_multiplier": 0.35, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "granitemoe": _EXPERTS,
    "granitemoehybrid": {
        **_MAMBA2,
        **_EXPERTS,
        "layer_types": ["mamba", "attention"],
        "mamba_chunk_size": 8,
        "shared_intermediate_size": 48,
        "embedding_multiplier": 3.0,
    },
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_state": 8,
    },
    "kimi_linear": {
        **_ROUTED,
        **_MLA,
        "q_lora_rank": None,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_head_dim": 8,
        "linear_num_heads": 4,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {**_EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama": {},
    "llama4_text": {
        **_EXPERTS,
        "head_dim": 8,
        "intermediate_size_mlp": 48,
        "interleave_moe_layer_step": 2,
        "moe_layers": [1],
    },
    "longt5": {**_T5, "decoder_start_token_id": 1},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "ministral": {**_TWO_KINDS, "head_dim": 8},
    "ministral3": {"head_dim": 8},
    "minimax": {**_EXPERTS, "head_dim": 8, "block_size": 8, "layer_types": ["linear_attention", "full_attention"]},
    "mistral": {"sliding_window": 16},
    "mixtral": _EXPERTS,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 1024},
    "mt5": {**_T5, "decoder_start_token_id": 1, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "nemotron": {},
    "nemotron_h": {
        **_ROUTED,
        "layer_types": ["linear_attention", "full_attention"],
        "head_dim": 8,
        "ssm_state_size": 8,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 1,
        "chunk_size": 8,
        "moe_shared_expert_intermediate_size": 16,
    },
    "olmo": {},
    "olmo2": {},
    "olmo3": _TWO_KINDS,
    "olmo_hybrid": {
        "num_hidden_layers": 4,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "olmoe": _EXPERTS,
    "openai-gpt": {"n_embd": 32, "n_head": 4, "n_layer": 2},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "phi": {},
    "phi3": {},
    "phimoe": _EXPERTS,
    "qwen2": {},
    "qwen2_moe": _EXPERTS,
    "qwen3": {"head_dim": 8},
    "qwen3_5_moe_text": {**_LINEAR, **_EXPERTS},
    "qwen3_5_text": _LINEAR,
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "qwen3_next": {**_LINEAR, **_EXPERTS},
    "qwen4_exp_text": {
        **_LINEAR,
        **_EXPERTS,
        "head_dim": 16,
        "hc_count": 2,
        "hc_lowrank": 8,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 64,
        "indexer_compress_ratio": 2,
        "ple_layer_ids": [1, 3],
        "ngram_vocab_size_base": 200,
        "heads_per_ngram": 2,
    },
    "recurrent_gemma": {
        "block_types": ["recurrent", "attention"],
        "lru_width": 32,
        "attention_window_size": 16,
        "head_dim": 8,
    },
    "rwkv": {"context_length": 1024, "attention_hidden_size": 32},
    "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "stablelm": {},
    "starcoder2": {},
    "t5": {**_T5, "decoder_start_token_id": 0, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "t5gemma": {
        "encoder": {**_T5_GEMMA, **_TWO_KINDS},
        "decoder": {**_T5_GEMMA, **_TWO_KINDS},
        "decoder_start_token_id": 1,
    },
    "umt5": {**_T5, "decoder_start_token_id": 0, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "zamba2": {
        "num_hidden_layers": 4,
        "hybrid_layer_ids": [1, 3],
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "mamba_d_state": 8,
        "mamba_headdim": 16,
        "n_mamba_heads": 4,
        "mamba_ngroups": 1,
        "chunk_size": 8,
        "num_mem_blocks": 1,
        "adapter_rank": 8,
        "attention_head_dim": 16,
    },
}
"""What the configuration of each kind has beside the common settings."""


def language_config(kind: str) -> Any:
    """Return a small configuration of a kind."""
    common = {
        "vocab_size": 616,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    return AutoConfig.for_model(kind, **{**common, **LANGUAGE_KINDS[kind]})


def save_language_model(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Write a random checkpoint of a kind; returns the folder.

    Args:
        folder: made where it does not exist.
        kind: a model type of `LANGUAGE_KINDS`.
        seed: of the weights: the same seed gives the same files.
    """
    save_tokenizer(folder, "qwen")
    config = language_config(kind)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config, dtype=torch.float32)
    draw(model, seed=seed)
    with torch.no_grad():
        for module in model.modules():  # as new models have it, and some published ones
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    model.save_pretrained(folder)
    ends = {"eos_token_id": 2, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    return folder
