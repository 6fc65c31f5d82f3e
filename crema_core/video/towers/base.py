"""What every vision tower offers.

Shape letters: B samples, T frames, S steps in time (T, or fewer where a tower joins frames), N patches of a step, D
feature width.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crema_core.data.frames import resize
from crema_core.errors import AssetError, OptionsError
from crema_core.model.pretrained import load_frozen, read_config
from crema_core.video.towers.preprocessing import (
    Preprocessing,
    preprocessing_of,
    read_preprocessing,
    resize_as_trained,
    side_of,
)

__all__ = ["ClipTransformerTower", "ImageTower", "Preprocessing", "Tower", "TransformersTower"]


class Tower(nn.Module, abc.ABC):
    """A frozen encoder of frames or clips.

    Args:
        source: hub id or folder of its weights; None: `default_weights`.
        revision: commit, tag or branch on the hub.
        layer: whose output is taken: -1 the last (with the model's final norm, where it has one), -2 the one before.
        dtype: number format of the weights.
        image_size: side of the square pictures, for towers that take any; None: as trained.

    Raises:
        OptionsError: when another size is asked of a tower that takes one only.

    `__init__` reads nothing; `load` reads weights; sizes come from the configuration alone.
    """

    name: ClassVar[str]
    default_weights: ClassVar[str | None] = None
    takes_any_size: ClassVar[bool] = False

    def __init__(
        self,
        source: str | None = None,
        *,
        revision: str | None = None,
        layer: int = -1,
        dtype: torch.dtype = torch.float32,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        if image_size is not None and not self.takes_any_size:
            raise OptionsError(
                f"image_size={image_size} was asked of the vision encoder '{self.name}', which takes pictures of the "
                "size it was trained with alone. Encoders of any size: dinov2, dinov3, timm. Leave image_size out."
            )
        self._source, self.revision, self.layer, self.dtype = source or self.default_weights, revision, layer, dtype
        self.image_size = image_size
        self.model: Any = None

    @property
    def source(self) -> str:
        """Where its weights are.

        Raises:
            AssetError: when nobody said.
        """
        if self._source is None:
            raise AssetError(
                f"The vision encoder '{self.name}' was chosen without weights. It needs a checkpoint. Pass the option "
                "weights with a hub id or a folder."
            )
        return self._source

    @property
    @abc.abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How it wants its pixels."""

    @property
    @abc.abstractmethod
    def feature_dim(self) -> int:
        """Width D."""

    @property
    @abc.abstractmethod
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of a step; N is their product, rows first."""

    @property
    def frames_per_step(self) -> int:
        """Frames it joins into one step; 1 for towers of single pictures."""
        return 1

    def frames_wanted(self, num_frames: int) -> int:
        """Return how many frames of a clip it looks at when `num_frames` are asked for."""
        return num_frames

    @property
    def sees_clips(self) -> bool:
        """Whether frames are looked at together; such a tower gets exactly `frames_wanted` frames of every source."""
        return self.frames_per_step > 1

    def prepare(self, frames_TCHW: Tensor, *, as_trained: bool = False) -> Tensor:
        """Make pixels.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1, of any size.
            as_trained: resize as the tower's own preprocessor does, which may cut the longer side; False: squash the
                whole picture into the square, so that nothing at its sides is lost.

        Returns:
            `(T, 3, size, size)` normalised float32.
        """
        wanted = self.preprocessing
        pixels = resize_as_trained(frames_TCHW, wanted) if as_trained else resize(frames_TCHW, wanted.size)
        return (pixels - pixels.new_tensor(wanted.mean).view(3, 1, 1)) / pixels.new_tensor(wanted.std).view(3, 1, 1)

    @abc.abstractmethod
    def load(self) -> None:
        """Read the weights.

        Raises:
            AssetError: when they cannot be had.
        """

    @abc.abstractmethod
    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """Encode frames from `prepare`: `(B, T, 3, size, size)` -> `(B, S, N, D)`, patches only."""


class TransformersTower(Tower):
    """A tower of transformers; a subclass names the class and the number of tokens before the patches."""

    model_class: ClassVar[Any]

    def __init__(
        self,
        source: str | None = None,
        *,
        revision: str | None = None,
        layer: int = -1,
        dtype: torch.dtype = torch.float32,
        image_size: int | None = None,
    ) -> None:
        super().__init__(source, revision=revision, layer=layer, dtype=dtype, image_size=image_size)
        self._config: Any = None
        self._preprocessing: Preprocessing | None = None

    @property
    def config(self) -> Any:
        """The configuration of the vision part."""
        if self._config is None:
            config = read_config(self.source, revision=self.revision)
            self._config = getattr(config, "vision_config", None) or config
        return self._config

    @property
    def preprocessing(self) -> Preprocessing:
        """As the checkpoint's own preprocessor says; sizes of the model and 0.5 where it has none."""
        if self._preprocessing is None:
            settings = read_preprocessing(self.source, revision=self.revision)
            trained = preprocessing_of(settings, default_size=side_of(self._trained_size))
            self._preprocessing = trained.at_size(self.image_size)
        return self._preprocessing

    @property
    def _trained_size(self) -> Any:
        return self.config.image_size

    @property
    def feature_dim(self) -> int:
        """Width D."""
        return int(self.config.hidden_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        side = self.preprocessing.size // side_of(self.config.patch_size)
        return side, side

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class token and registers."""
        return 0

    def load(self) -> None:
        """See `Tower.load`."""
        if not -int(self.config.num_hidden_layers) <= self.layer <= -1:
            raise OptionsError(
                f"layer={self.layer} is none of '{self.source}'. Accepted: -1 (the last) to "
                f"-{self.config.num_hidden_layers}. Leave layer out for the last."
            )
        self.model = load_frozen(
            self.model_class, self.source, revision=self.revision, dtype=self.dtype, unused=("pooler.",)
        )
        _ = self.preprocessing  # read here, so that worker processes need not

    def tokens(self, pixels: Tensor, **arguments: Any) -> Tensor:
        """Return one layer's tokens `(M, prefix + patches, D)`."""
        assert self.model is not None, "load() reads the weights"
        if self.layer == -1:
            last: Tensor = self.model(pixels.to(self.dtype), **arguments).last_hidden_state
            return last
        output = self.model(pixels.to(self.dtype), output_hidden_states=True, **arguments)
        hidden: Tensor = output.hidden_states[self.layer]
        return hidden


class ImageTower(TransformersTower):
    """A tower that sees one picture at a time."""

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `Tower.forward`."""
        patches = self.tokens(frames_BTCHW.flatten(0, 1))[:, self.num_prefix_tokens :]
        patches_BTND: Tensor = patches.unflatten(0, tuple(frames_BTCHW.shape[:2]))
        return patches_BTND


class ClipTransformerTower(TransformersTower):
    """A tower that sees a clip as tubes of several frames."""

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `Tower.forward`."""
        patches = self.tokens(frames_BTCHW)[:, self.num_prefix_tokens :]
        steps = frames_BTCHW.shape[1] // self.frames_per_step
        patches_BSND: Tensor = patches.unflatten(1, (steps, -1))
        return patches_BSND
