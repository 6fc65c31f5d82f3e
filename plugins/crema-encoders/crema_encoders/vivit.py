"""ViViT (Arnab et al. 2021): 32 frames, tubes of 2."""

from __future__ import annotations

from transformers import VivitModel

from crema_core.video.towers.base import ClipTransformerTower


class VivitTower(ClipTransformerTower):
    """Class token first; it is left out."""

    name, model_class = "vivit", VivitModel
    default_weights = "google/vivit-b-16x2-kinetics400"
    num_prefix_tokens = 1

    @property
    def frames_per_step(self) -> int:
        """Length of a tube."""
        return int(self.config.tubelet_size[0])

    def frames_wanted(self, num_frames: int) -> int:
        """Exactly as many as it was trained with: its positions are a table."""
        return int(self.config.num_frames)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tubes."""
        size = self.preprocessing.size
        return size // int(self.config.tubelet_size[1]), size // int(self.config.tubelet_size[2])
