"""The options of every modality that sees through the backbone or a vision encoder; imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from crema_core.plugins.spec import Asset, ModalityOptions

BACKBONE = "backbone"


class SeeingOptions(ModalityOptions):
    """Which frozen encoder looks."""

    encoder: str = Field(
        default=BACKBONE,
        description="backbone: the shared frozen vision encoder; or one of crema-encoders: clip, dinov2, dinov3, "
        "languagebind, siglip, timm, videomae, vivit, vjepa2, or one that another package adds",
    )
    weights: str | None = Field(
        default=None, description="hub id or folder of the vision encoder's weights; None: its usual hub id"
    )
    revision: str | None = Field(
        default=None, description="commit, tag or branch of the hub id; a commit pins the weights; None: the latest"
    )
    own_tokens: bool = Field(
        default=True,
        description="as major modality on a vision-language model: its own visual tokens, as its processor makes them; "
        "false: squares of its image_size through the Q-Former, as in BLIP-2",
    )
    encoder_layer: int = Field(
        default=-1, le=-1, description="layer of a vision encoder whose output is taken, -1 the last, -2 the one before"
    )


VISION_ENCODER_ASSETS: tuple[Asset, ...] = tuple(
    Asset(id=name, license=licence, url=f"https://huggingface.co/{name}")
    for name, licence in json.loads(
        Path(__file__).with_name("encoder_weights.json").read_text(encoding="utf-8")
    ).items()
)
"""The usual weights of the encoders in crema-encoders, with their licences."""
