"""A backbone folder from frozen weights in the LAVIS layout, for the golden cases, which hold such weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration

from crema_core.errors import CheckpointError

released = pytest.importorskip("crema_benchmarks.released")

_FROZEN_RULES: tuple[tuple[str, str], ...] = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.(\w+)$", r"vision_model.embeddings.patch_embedding.\1"),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.(\w+)$", r"vision_model.encoder.layers.\1.layer_norm\2.\3"),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.weight$", r"vision_model.encoder.layers.\1.self_attn.qkv.weight"),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.(\w+)$", r"vision_model.encoder.layers.\1.self_attn.projection.\2"),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.(fc[12])\.(\w+)$", r"vision_model.encoder.layers.\1.mlp.\2.\3"),
    (r"^ln_vision\.(\w+)$", r"vision_model.post_layernorm.\1"),
    (r"^query_tokens$", "query_tokens"),
    (r"^Qformer\.bert\.embeddings\.LayerNorm\.(\w+)$", r"qformer.layernorm.\1"),
    (
        r"^Qformer\.bert\.encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(query|key|value)(?:\.w)?\.(\w+)$",
        r"qformer.encoder.layer.\1.\2.attention.\3.\4",
    ),
    (r"^Qformer\.bert\.encoder\.layer\.(.+)$", r"qformer.encoder.layer.\1"),
    (r"^(?:t5|opt)_proj\.(\w+)$", r"language_projection.\1"),
    (r"^(?:t5|opt)_model\.(.+)$", r"language_model.\1"),
)
_FUSED_BIAS = re.compile(r"^visual_encoder\.blocks\.(\d+)\.attn\.q_bias$")
_DROPPED = re.compile(
    r"(position_ids|_gradsel_embed)$|^Qformer\.(cls\.|bert\.embeddings\.(word|position)_embeddings)|\.attn\.v_bias$"
    r"|^Qformer\.bert\.encoder\.layer\.\d+\.(intermediate|output)\.|^(vision_proj|text_proj|itm_head|temp)\b"
)


def backbone_from_lavis(
    state: Mapping[str, Tensor],
    config: Blip2Config,
    tokenizer: Any,
    folder: str | Path,
    *,
    modalities: Sequence[str] = (),
) -> Path:
    """Write a backbone folder in transformers format from frozen weights in the LAVIS layout.

    Args:
        state: LAVIS names; weights of single modalities (suffix `_<modality>`) are left out.
        config: the BLIP-2 configuration the weights belong to.
        tokenizer: saved beside them.
        folder: where to write.
        modalities: released names of modalities whose weights are in `state`.

    Raises:
        CheckpointError: listing unknown and missing keys; nothing is written then. Parts a CREMA checkpoint does not
            have (the backbone's own queries, projection and vision LayerNorm) start as the configuration draws them.
    """
    keys = [released.AdapterKeys(name, 0, has_projection=True, has_norm=True) for name in modalities]
    frozen = {
        key: value
        for key, value in state.items()
        if not any(own.owns(key) for own in keys)
        and not re.match(rf"^(?!visual_)\w+_encoder\.|^{re.escape(released.FUSION)}\.", key)
    }
    renamed, unknown = _in_transformers_format(frozen)
    if "language_model.shared.weight" in renamed:  # T5: both stacks read the shared embedding, stored once there
        for stack in ("encoder", "decoder"):
            renamed.setdefault(f"language_model.{stack}.embed_tokens.weight", renamed["language_model.shared.weight"])
    model = Blip2ForConditionalGeneration(config)
    result = model.load_state_dict(renamed, strict=False)
    optional = ("query_tokens", "language_projection.", "vision_model.post_layernorm.")
    lines = [f"unknown: {key}" for key in [*unknown, *result.unexpected_keys]]
    lines += [f"missing: {key}" for key in result.missing_keys if not key.startswith(optional)]
    if lines:
        raise CheckpointError(
            f"The weights do not make this backbone, {len(lines)} keys differ:\n  "
            + "\n  ".join(lines)
            + "\nThey must be in the LAVIS layout and fit the configuration. Pass the matching one. "
            "Nothing was written."
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _in_transformers_format(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return weights under the names of transformers, and the names no rule knows."""
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in state.items():
        if fused := _FUSED_BIAS.match(key):
            # transformers keeps one bias for query, key and value; the key's is zero.
            stem = f"visual_encoder.blocks.{fused[1]}.attn"
            bias = torch.cat([value, torch.zeros_like(value), state[f"{stem}.v_bias"]])
            renamed[f"vision_model.encoder.layers.{fused[1]}.self_attn.qkv.bias"] = bias
        elif not _DROPPED.search(key):
            new = _rename(key)
            if new is None:
                unknown.append(key)
            else:
                renamed[new] = value
    return renamed, unknown


def _rename(key: str) -> str | None:
    for pattern, replacement in _FROZEN_RULES:
        new, count = re.subn(pattern, replacement, key)
        if count:
            return new
    return None
