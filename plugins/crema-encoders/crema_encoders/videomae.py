"""VideoMAE (Tong et al. 2022): 16 frames, tubes of 2."""

from __future__ import annotations

from transformers import VideoMAEModel

from crema_core.video.towers.base import ClipTransformerTower


class VideoMaeTower(ClipTransformerTower):
    """Tubes only, nothing before them."""

    name, model_class = "videomae", VideoMAEModel
    default_weights = "MCG-NJU/videomae-base"

    @property
    def frames_per_step(self) -> int:
        """Length of a tube."""
        return int(self.config.tubelet_size)

    def frames_wanted(self, num_frames: int) -> int:
        """Exactly as many as it was trained with: its positions are a table."""
        return int(self.config.num_frames)
