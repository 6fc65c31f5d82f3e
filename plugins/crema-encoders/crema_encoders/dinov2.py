"""DINOv2, with and without registers (Oquab et al. 2023, Darcet et al. 2023)."""

from __future__ import annotations

from transformers import AutoModel

from crema_core.video.towers.base import ImageTower


class Dinov2Tower(ImageTower):
    """Class token and registers first; they are left out. Positions are interpolated to the size it is given."""

    name, model_class = "dinov2", AutoModel
    default_weights = "facebook/dinov2-large"
    takes_any_size = True

    @property
    def num_prefix_tokens(self) -> int:
        """Class token and registers."""
        return 1 + int(getattr(self.config, "num_register_tokens", 0))
