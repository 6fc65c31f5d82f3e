"""V-JEPA 2 (Assran et al. 2025): any number of frames, tubes of 2; the predictor is not run."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import VJEPA2Model

from crema_core.video.towers.base import ClipTransformerTower


class Vjepa2Tower(ClipTransformerTower):
    """Tubes only; positions are rotary, so any whole number of tubes fits."""

    name, model_class = "vjepa2", VJEPA2Model
    default_weights = "facebook/vjepa2-vitl-fpc64-256"

    @property
    def _trained_size(self) -> Any:
        return self.config.crop_size

    @property
    def frames_per_step(self) -> int:
        """Length of a tube."""
        return int(self.config.tubelet_size)

    def frames_wanted(self, num_frames: int) -> int:
        """The next whole number of tubes."""
        tube = self.frames_per_step
        return -(-num_frames // tube) * tube

    def tokens(self, pixels: Tensor, **arguments: Any) -> Tensor:
        """Run the encoder alone."""
        return super().tokens(pixels, skip_predictor=True, **arguments)
