"""The MERV paper's training stages as presets, with the released configuration's numbers.

Two recipes: "frozen" trains on dialogues alone (`merv-frozen`); "full" aligns first, the language model included
(`merv-full-align`), and then does the same as "frozen" (`merv-finetune`). `merv-align` is the alignment of projectors
and mixer alone, with the language model frozen, which the released code also has.
"""

from __future__ import annotations

from typing import Any

from crema_core.plugins.preset import Preset

ENCODERS: tuple[dict[str, Any], ...] = (
    {"name": "languagebind", "layer": -2},
    {"name": "timm", "weights": "timm/vit_large_patch14_reg4_dinov2.lvd142m", "layer": -2, "image_size": 224},
    {"name": "vivit"},
    {"name": "timm", "weights": "timm/vit_base_patch16_siglip_224.webli", "layer": -2},
)
"""The paper's four, in the order of mixing, with the layers the released code takes."""

CONFIG: dict[str, Any] = {
    "modalities": [{"name": "video", "num_frames": 16}],
    "encoders": list(ENCODERS),
    "language_model": "meta-llama/Llama-2-7b-hf",
    "fusion": {"name": "merv"},
    "template": {"open_ended": "In: {question}\nOut:", "chat": False, "max_question_tokens": 2048},
    "precision": "bf16",
}
SETTINGS: dict[str, Any] = {
    "mode": "joint",
    "epochs": 1,
    "warmup_ratio": 0.03,
    "max_grad_norm": 1.0,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "seed": 7,
    "num_workers": 2,
}
NOTES = {
    "modalities": "paper: 16 frames, but for ViViT's 32",
    "encoders": "paper; layers of the released code",
    "language_model": "paper",
    "fusion": "paper: 2D average to 8 x 8 tokens, linear maps, cross-attention mixer",
    "template": "released code's prompt of Llama-2; its multiple-choice wording is not taken over",
    "epochs": "released configuration",
    "batch_size": "released configuration: 16 or 8 per GPU on 8 GPUs; with accumulation 256 or 128 an update",
    "lr": "released configuration",
    "warmup_ratio": "released configuration, of a cosine",
    "weight_decay": "released configuration; not on biases and norms",
    "max_grad_norm": "released configuration; the paper does not mention it",
    "precision": "released configuration",
    "seed": "released configuration",
    "early_exit": "off, as released",
}
ALIGN_DATA = (
    "the paper's 558k pictures and 702k clips with captions, as a JSONL file; the question of a caption is free"
)
FINETUNE_DATA = "the paper's 665k picture and 100k video dialogues, as a JSONL file"
_ALIGN = {"batch_size": 128, "gradient_accumulation_steps": 2, "weight_decay": 0.0}
_FINETUNE = {"batch_size": 64, "gradient_accumulation_steps": 2, "weight_decay": 0.1, "lr": 2e-5}


def released_config() -> dict[str, Any]:
    """Return the model as the released code feeds it: its frames, and three of four encoders see squashed pictures."""
    (modality,) = CONFIG["modalities"]
    squashed = [own if own["name"] == "languagebind" else {**own, "resize": "squash"} for own in ENCODERS]
    return CONFIG | {"modalities": [{**modality, "encoder_frames": "released"}], "encoders": squashed}


def _stage(name: str, data: str, *, tuning: str | None, note: str = "", settings: dict[str, Any]) -> Preset:
    # Weights that are trained stay in fp32: steps of 2e-5 would vanish in bf16.
    config = CONFIG if tuning is None else CONFIG | {"precision": "fp32", "tuning": tuning}
    notes = NOTES | {"data": data} | ({"tuning": note} if note else {})
    return Preset(name, "", config, SETTINGS | settings, notes)


_FIRST, _ONLY = "paper: the first stage of full", "paper: the only stage of frozen"
_AFTER = "paper: the language model is trained too; start from merv-full-align with --init-from RUN"
ALIGN = _stage("merv-align", ALIGN_DATA, tuning=None, settings={**_ALIGN, "lr": 1e-3})
FULL_ALIGN = _stage(
    "merv-full-align", ALIGN_DATA, tuning="full", note="paper, stage 1 of full", settings={**_ALIGN, "lr": 1e-4}
)
FINETUNE = _stage("merv-finetune", FINETUNE_DATA, tuning="full", note=_AFTER, settings=_FINETUNE)
FROZEN = _stage("merv-frozen", FINETUNE_DATA, tuning="full", note=_ONLY, settings=_FINETUNE)
