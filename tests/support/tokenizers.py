"""Tiny tokenizers of the kinds the hub's language models have, written to folders as the hub's files are.

Each knows the few words of the tests, spells others, and has class name, special tokens and processing of its model:
SentencePiece pieces closed by `</s>` (T5), byte-level pieces opened by `</s>` (OPT) or by nothing (Qwen), SentencePiece
pieces opened by `<s>` (Llama, Mistral), WordPiece between `[CLS]` and `[SEP]` (the Q-Former's own).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

Kind = Literal["t5", "opt", "llama", "qwen", "bert"]

WORDS = (
    "Frame Wave Points Audio What what is Is it the colour of thing left right or Question Option red blue green a dog "
    "cat Considering information presented in frame select correct answer from options yes no one two three You are "
    "helpful assistant system user A B C D E F G H"
).split()
SIGNS = [chr(code) for code in range(33, 127)]
QWEN_CHAT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def save_tokenizer(folder: Path, kind: Kind, *, chat_template: str | None = None) -> Path:
    """Write the files of a tokenizer of a kind; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, config = {"t5": _t5, "opt": _opt, "llama": _llama, "qwen": _qwen, "bert": _bert}[kind]()
    tokenizer.save(str(folder / "tokenizer.json"))
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    special = {key: config[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token") if config.get(key)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    return folder


def _t5() -> tuple[Tokenizer, dict[str, Any]]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [(f"▁{word}", -5.0) for word in WORDS] + [(sign, -8.0) for sign in SIGNS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer, {
        "tokenizer_class": "T5Tokenizer",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "extra_ids": 0,
        "model_max_length": 512,
        "processor_class": "Blip2Processor",
    }


def _byte_level(special: Sequence[str]) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(*_merged([*special, *alphabet], "Ġ")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _merged(known: Sequence[str], space: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return vocabulary and merges that put every word together, first as it stands behind a space."""
    vocabulary, merges = dict.fromkeys(known), {}
    for word in [*(space + word for word in WORDS), *WORDS]:
        for end in range(2, len(word) + 1):
            merges[word[: end - 1], word[end - 1]] = None
            vocabulary[word[:end]] = None
    return {piece: index for index, piece in enumerate(vocabulary)}, list(merges)


def _opt() -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer = _byte_level(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", pair="</s> $A </s> $B", special_tokens=[("</s>", 2)]
    )
    return tokenizer, {
        "tokenizer_class": "GPT2Tokenizer",
        "add_bos_token": True,
        "add_prefix_space": False,
        "bos_token": "</s>",
        "eos_token": "</s>",
        "unk_token": "</s>",
        "pad_token": "<pad>",
        "errors": "replace",
        "model_max_length": 1000000000000000019884624838656,
        "processor_class": "Blip2Processor",
    }


def _qwen() -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer, {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 131072,
    }


def _llama() -> tuple[Tokenizer, dict[str, Any]]:
    special = ["<unk>", "<s>", "</s>"]
    known = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *SIGNS]
    vocabulary, merges = _merged(known, "▁")
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer, {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": None,
        "unk_token": "<unk>",
        "legacy": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }


def _bert() -> tuple[Tokenizer, dict[str, Any]]:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    signs = dict.fromkeys(sign.lower() for sign in SIGNS)
    pieces = dict.fromkeys([*special, *signs, *(f"##{sign}" for sign in signs), *(word.lower() for word in WORDS)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer, {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "bos_token": "[DEC]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "model_max_length": 512,
        "truncation_side": "left",
        "processor_class": "InstructBlipProcessor",
    }
