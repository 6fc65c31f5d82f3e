"""Encoders that see one picture at a time: CLIP, SigLIP, DINOv2 and DINOv3."""

from __future__ import annotations

from transformers import AutoModel, CLIPVisionModel, DINOv3ViTModel, SiglipVisionModel

from crema_encoders.base import ImageEncoder


class ClipEncoder(ImageEncoder):
    """CLIP (Radford et al. 2021); LLaVA-like models take the layer before the last.

    Class token first; it is left out.
    """

    name, model_class = "clip", CLIPVisionModel
    default_weights = "openai/clip-vit-large-patch14"
    num_prefix_tokens = 1


class SiglipEncoder(ImageEncoder):
    """SigLIP and SigLIP 2 of fixed resolution (Zhai et al. 2023, Tschannen et al. 2025): patches only."""

    name, model_class = "siglip", SiglipVisionModel
    default_weights = "google/siglip2-so400m-patch14-384"


class Dinov2Encoder(ImageEncoder):
    """DINOv2, with and without registers (Oquab et al. 2023, Darcet et al. 2023).

    Class token and registers come first and are left out; positions are interpolated to the size it is given.
    """

    name, model_class = "dinov2", AutoModel
    default_weights = "facebook/dinov2-large"
    takes_any_size = True

    @property
    def num_prefix_tokens(self) -> int:
        """Class token and registers."""
        return 1 + int(getattr(self.config, "num_register_tokens", 0))


class Dinov3Encoder(ImageEncoder):
    """DINOv3 (Siméoni et al. 2025); its weights have a licence of their own.

    Class token and registers first; they are left out.
    """

    name, model_class = "dinov3", DINOv3ViTModel
    default_weights = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    takes_any_size = True

    @property
    def num_prefix_tokens(self) -> int:
        """Class token and registers."""
        return 1 + int(self.config.num_register_tokens)
