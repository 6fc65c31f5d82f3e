"""DINOv3 (Siméoni et al. 2025); its weights have a licence of their own."""

from __future__ import annotations

from transformers import DINOv3ViTModel

from crema_core.video.towers.base import ImageTower


class Dinov3Tower(ImageTower):
    """Class token and registers first; they are left out."""

    name, model_class = "dinov3", DINOv3ViTModel
    default_weights = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    takes_any_size = True

    @property
    def num_prefix_tokens(self) -> int:
        """Class token and registers."""
        return 1 + int(self.config.num_register_tokens)
