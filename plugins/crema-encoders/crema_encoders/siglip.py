"""SigLIP and SigLIP 2 of fixed resolution (Zhai et al. 2023, Tschannen et al. 2025)."""

from __future__ import annotations

from transformers import SiglipVisionModel

from crema_core.video.towers.base import ImageTower


class SiglipTower(ImageTower):
    """Patches only, nothing before them."""

    name, model_class = "siglip", SiglipVisionModel
    default_weights = "google/siglip2-so400m-patch14-384"
