"""The options of every modality that sees through the backbone or a vision encoder; imports no torch."""

from __future__ import annotations

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
    encoder_layer: int = Field(
        default=-1, le=-1, description="layer of a vision encoder whose output is taken, -1 the last, -2 the one before"
    )


VISION_ENCODER_ASSETS: tuple[Asset, ...] = tuple(
    Asset(id=name, license=licence, url=f"https://huggingface.co/{name}")
    for name, licence in (
        ("openai/clip-vit-large-patch14", "MIT"),
        ("facebook/dinov2-large", "Apache-2.0"),
        ("facebook/dinov3-vitl16-pretrain-lvd1689m", "DINOv3 License"),
        ("google/siglip2-so400m-patch14-384", "Apache-2.0"),
        ("MCG-NJU/videomae-base", "CC-BY-NC-4.0"),
        ("google/vivit-b-16x2-kinetics400", "MIT"),
        ("facebook/vjepa2-vitl-fpc64-256", "MIT"),
        ("LanguageBind/LanguageBind_Video_merge", "MIT"),
    )
)
