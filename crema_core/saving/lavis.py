"""Key layouts: BLIP-2 as LAVIS and the released CREMA code store it, and as transformers stores it.

Two tables of rules. `blip2_keys` maps frozen weights (vision encoder, Q-Former, language model) so that a backbone in
transformers format can be written from them; `AdapterKeys` maps the trained weights of one sense (facts: key table of
the released checkpoint). Rules, not cases: any number of layers and senses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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


def blip2_keys(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename frozen weights from the LAVIS layout to the transformers layout.

    Args:
        state: weights under LAVIS names; those of single senses are left out.

    Returns:
        Weights under transformers names, and the names no rule knows.
    """
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


@dataclass(frozen=True)
class AdapterKeys:
    """Names of one sense's trained weights in a released checkpoint.

    Attributes:
        released: the sense's name there.
        num_layers: layers of the Q-Former.
        has_projection: whether the sense has an FC (widths differ).
        has_norm: whether this model's adapter has a LayerNorm.
    """

    released: str
    num_layers: int
    has_projection: bool
    has_norm: bool

    def table(self) -> dict[str, str]:
        """Return our adapter key -> released key."""
        name = self.released
        keys = {"mmqa.queries": f"query_tokens_{name}"}
        for end in ("weight", "bias"):
            keys[f"mmqa.output.{end}"] = f"t5_proj_{name}.{end}"
            if self.has_norm:
                keys[f"mmqa.norm.{end}"] = f"ln_{name}.{end}"
            if self.has_projection:
                keys[f"mmqa.projection.{end}"] = f"projection_{name}.{end}"
        for layer in range(self.num_layers):
            for part in ("query", "value"):
                stem = f"Qformer.bert.encoder.layer.{layer}.attention.self.{part}"
                keys[f"lora.{layer}.{part}.A"] = f"{stem}.w_a_{name}.weight"
                keys[f"lora.{layer}.{part}.B"] = f"{stem}.w_b_{name}.weight"
        return keys

    def owns(self, key: str) -> bool:
        """Whether a released key belongs to this sense, used or not."""
        name = re.escape(self.released)
        return bool(
            re.search(rf"^(query_tokens_{name}|(ln|t5_proj|projection)_{name}\.\w+|{name}_gradsel_embed)$", key)
            or re.search(rf"\.w_[ab]_{name}\.weight$", key)
        )
