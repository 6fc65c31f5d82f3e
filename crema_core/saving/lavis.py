"""The key table of the released checkpoints: where the trained weights of one modality lie in them.

Rules, not cases: any number of layers and modalities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


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
