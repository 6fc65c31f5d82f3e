"""An encoder without weights: the mean colour of a frame is its one token."""

from __future__ import annotations

from torch import Tensor

from crema_core.video.vision_encoder import Preprocessing, VisionEncoder


class MeanColor(VisionEncoder):
    """One token: the mean colour."""

    name = "mean_color"
    preprocessing = Preprocessing(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    feature_dim = 3
    grid = (1, 1)

    def load(self) -> None:
        """Nothing to load."""

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """Return the mean colour of every frame `(B, T, 1, 3)`."""
        return frames_BTCHW.mean(dim=(-1, -2))[:, :, None]
