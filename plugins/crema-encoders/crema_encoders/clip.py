"""CLIP's image tower (Radford et al. 2021); LLaVA-like models take the layer before the last."""

from __future__ import annotations

from transformers import CLIPVisionModel

from crema_core.video.towers.base import ImageTower


class ClipTower(ImageTower):
    """Class token first; it is left out."""

    name, model_class = "clip", CLIPVisionModel
    default_weights = "openai/clip-vit-large-patch14"
    num_prefix_tokens = 1
