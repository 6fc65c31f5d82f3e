"""Qwen2-VL and Qwen2.5-VL: two frames at a time through a vision encoder of its own, four patches joined to a token.

A step of a clip is what the vision encoder looks at together (`temporal_patch_size` frames); a picture is such a step
with the picture repeated, as in the released processor. Steps do not attend to each other, so each is encoded by
itself. The vision encoder takes pictures of any size; here they are squares whose side is chosen when the model is
built.

The merger, which joins patches and leads to the language model's width, is the projector here. What is before it is
the mean of the patches a token is joined from, as LLaVA-OneVision's video pooling makes its own.

Shape letters: M steps, P frames of a step, N patches of a step, U patches of a token, S visual tokens of a step, E
vision width, L width of the language model.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from crema_core.errors import OptionsError
from crema_core.fusion.connector import VisualLayout
from crema_pave.backbones.positions import RotaryAxes
from crema_pave.backbones.video_language import VideoBackbone

TOKENS_ACROSS = 12
"""Visual tokens of a row unless a size is chosen: 336 pixels, the smallest square of the released video sizes."""


class QwenBackbone(VideoBackbone):
    """Frozen parts of a Qwen2-VL or Qwen2.5-VL model.

    Args:
        model: the whole transformers model; its vision encoder is taken apart.
        tokenizer: of the language model.
        image_size: side in pixels of the square pictures, from `square_side`.
        **settings: see `Backbone`.
    """

    any_image_size = True

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, *, image_size: int | None = None, **settings: Any
    ) -> None:
        vision_encoder, vision = model.model.visual, model.config.vision_config
        projector, vision_encoder.merger = vision_encoder.merger, _Grouped(vision.spatial_merge_size**2)
        super().__init__(model, vision_encoder=vision_encoder, projector=projector, tokenizer=tokenizer, **settings)
        self._side = square_side(vision, image_size)
        self.frames_per_step = int(vision.temporal_patch_size)
        self.axes = RotaryAxes(getattr(vision, "tokens_per_second", None))

    @property
    def image_size(self) -> int:
        """Side in pixels of the square pictures."""
        return self._side

    @property
    def layout(self) -> VisualLayout:
        """How the visual tokens of a step lie."""
        side = self._side // token_side(self._vision_config)
        return VisualLayout(side, side, inner_width=self.vision_dim)

    @property
    def vision_dim(self) -> int:
        """Width E of the vision encoder's hidden states."""
        return int(cast(Any, self.vision_model).patch_embed.embed_dim)

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Encode steps.

        Args:
            pixels_MCHW: `(M, P, 3, H, W)` normalised pixels, or `(M, 3, H, W)` pictures.

        Returns:
            `(M, N, E)` hidden states before the merger, row by row.
        """
        pixels = pixels_MCHW
        if pixels.dim() == 4:
            pixels = pixels[:, None].expand(-1, self.frames_per_step, -1, -1, -1)
        merge, patch = int(self._vision_config.spatial_merge_size), int(self._vision_config.patch_size)
        rows, columns = (side // patch for side in pixels.shape[-2:])
        flat = patches(pixels, patch=patch, merge=merge)
        grid = torch.tensor([[len(pixels), rows, columns]], device=pixels.device)
        # In place of the merger the vision encoder has `_Grouped`, so what it returns is grouped, in order, and not yet
        # joined.
        grouped: Tensor = cast(Any, self.vision_model)(flat.to(self.dtype), grid_thw=grid).pooler_output
        cells = grouped.reshape(len(pixels), rows // merge, columns // merge, merge, merge, self.vision_dim)
        return cells.transpose(2, 3).flatten(1, 4)

    def vision_parts(self) -> tuple[nn.Module, ...]:
        """Return the embedding of patches and the layers."""
        vision_encoder: Any = self.vision_model
        return (vision_encoder.patch_embed, *vision_encoder.blocks)

    def vision_layers(self) -> tuple[nn.Module, ...]:
        """Return the layers."""
        return self.vision_parts()[1:]

    @torch.no_grad()
    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the merger's tokens `(M, S, L)`, and the means of the patches they are joined from `(M, S, E)`."""
        merge, across = int(self._vision_config.spatial_merge_size), self.layout.columns
        cells = features_MNE.unflatten(1, (-1, merge, across, merge)).transpose(2, 3)
        joined_MSUE = cells.flatten(3, 4).flatten(1, 2)
        tokens: Tensor = self.projector(joined_MSUE.to(self.dtype).flatten(0, 2))
        return tokens.unflatten(0, (len(features_MNE), -1)), joined_MSUE.mean(2)


class _Grouped(nn.Module):
    """Lay the patches of a token side by side: what the merger's linear layers take, without its norm.

    Args:
        unit: U.
    """

    def __init__(self, unit: int) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `(S, U * E)` of `(S * U, E)`."""
        return hidden.reshape(-1, self.unit * hidden.shape[-1])


def patches(pixels_MPCHW: Tensor, *, patch: int, merge: int) -> Tensor:
    """Cut steps into flat patches in the order of the released processor: those of one token follow each other.

    Args:
        pixels_MPCHW: `(M, P, 3, H, W)`.
        patch: side of a patch in pixels.
        merge: patches of a token across.

    Returns:
        `(M * N, 3 * P * patch * patch)`: channel, frame, row, column of a patch's pixels.
    """
    cut = pixels_MPCHW.unflatten(4, (-1, merge, patch)).unflatten(3, (-1, merge, patch))
    # From (M, P, 3, rows, merge, patch, columns, merge, patch).
    ordered: Tensor = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.flatten(5).flatten(0, 4)


def token_side(vision: Any) -> int:
    """Return the side in pixels of what becomes one visual token."""
    return int(vision.patch_size) * int(vision.spatial_merge_size)


def square_side(vision: Any, wanted: int | None) -> int:
    """Return the side of the pictures.

    Args:
        vision: configuration of the vision encoder.
        wanted: in pixels; None: `TOKENS_ACROSS` tokens.

    Raises:
        OptionsError: when it is not a whole number of tokens.
    """
    unit = token_side(vision)
    side = TOKENS_ACROSS * unit if wanted is None else wanted
    if side < unit or side % unit:
        near = max(1, round(side / unit)) * unit
        raise OptionsError(
            f"image_size={side} is no whole number of this backbone's visual tokens, each {unit} pixels wide "
            f"({vision.spatial_merge_size} patches of {vision.patch_size}). Accepted: multiples of {unit}. Use "
            f"image_size={near}, or leave it out for {TOKENS_ACROSS * unit}."
        )
    return side
