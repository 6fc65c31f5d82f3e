"""A backbone folder from frozen weights in the LAVIS layout, for the golden cases, which hold such weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration

from crema_core.errors import CheckpointError
from crema_core.saving.convert import FUSION
from crema_core.saving.lavis import AdapterKeys, blip2_keys


def backbone_from_lavis(
    state: Mapping[str, Tensor], config: Blip2Config, tokenizer: Any, folder: str | Path, *, senses: Sequence[str] = ()
) -> Path:
    """Write a backbone folder in transformers format from frozen weights in the LAVIS layout.

    Args:
        state: LAVIS names; weights of single senses (suffix `_<sense>`) are left out.
        config: the BLIP-2 configuration the weights belong to.
        tokenizer: saved beside them.
        folder: where to write.
        senses: released names of senses whose weights are in `state`.

    Raises:
        CheckpointError: listing unknown and missing keys; nothing is written then. Parts a CREMA checkpoint does not
            have (the backbone's own queries, projection and vision LayerNorm) start as the configuration draws them.
    """
    keys = [AdapterKeys(name, 0, has_projection=True, has_norm=True) for name in senses]
    frozen = {
        key: value
        for key, value in state.items()
        if not any(own.owns(key) for own in keys)
        and not re.match(rf"^(?!visual_)\w+_encoder\.|^{re.escape(FUSION)}\.", key)
    }
    renamed, unknown = blip2_keys(frozen)
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
