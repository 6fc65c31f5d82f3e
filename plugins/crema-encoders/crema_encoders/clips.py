"""Encoders that see a clip as tubes of several frames: ViViT, VideoMAE and V-JEPA 2."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import VideoMAEModel, VivitModel, VJEPA2Model

from crema_encoders.base import ClipTransformerEncoder


class VivitEncoder(ClipTransformerEncoder):
    """ViViT (Arnab et al. 2021): 32 frames, tubes of 2; class token first, which is left out."""

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


class VideoMaeEncoder(ClipTransformerEncoder):
    """VideoMAE (Tong et al. 2022): 16 frames, tubes of 2, nothing before them."""

    name, model_class = "videomae", VideoMAEModel
    default_weights = "MCG-NJU/videomae-base"

    @property
    def frames_per_step(self) -> int:
        """Length of a tube."""
        return int(self.config.tubelet_size)

    def frames_wanted(self, num_frames: int) -> int:
        """Exactly as many as it was trained with: its positions are a table."""
        return int(self.config.num_frames)


class Vjepa2Encoder(ClipTransformerEncoder):
    """V-JEPA 2 (Assran et al. 2025): tubes of 2; positions are rotary, so any whole number of tubes fits.

    The predictor is not run.
    """

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
