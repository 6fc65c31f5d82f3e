"""What every vision tower offers.

Shape letters: B samples, T frames, S steps in time (T, or fewer where a tower joins frames), N patches of a step, D
feature width.
"""

from __future__ import annotations

import abc
import json
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers.utils.hub import cached_file

from crema_core.data.frames import resize
from crema_core.errors import AssetError, OptionsError
from crema_core.model.pretrained import load_frozen, read_config

PREPROCESSING = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
RGB = tuple[float, float, float]


class Preprocessing(NamedTuple):
    """How a tower wants its pixels.

    Attributes:
        size: side of the square pictures.
        mean, std: of every channel, for pixels in 0..1.
    """

    size: int
    mean: RGB
    std: RGB


class Tower(nn.Module, abc.ABC):
    """A frozen encoder of frames or clips.

    Args:
        source: hub id or folder of its weights; None: `default_weights`.
        revision: commit, tag or branch on the hub.
        layer: whose output is taken: -1 the last (with the model's final norm, where it has one), -2 the one before.
        dtype: number format of the weights.

    `__init__` reads nothing; `load` reads weights; sizes come from the configuration alone.
    """

    name: ClassVar[str]
    default_weights: ClassVar[str | None] = None

    def __init__(
        self,
        source: str | None = None,
        *,
        revision: str | None = None,
        layer: int = -1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._source, self.revision, self.layer, self.dtype = source or self.default_weights, revision, layer, dtype
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

    def prepare(self, frames_TCHW: Tensor) -> Tensor:
        """Return `(T, 3, size, size)` normalised float32, from uint8 0..255 or float 0..1 of any size."""
        size, mean, std = self.preprocessing
        pixels = resize(frames_TCHW, size)
        return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)

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
    ) -> None:
        super().__init__(source, revision=revision, layer=layer, dtype=dtype)
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
            self._preprocessing = _preprocessing(settings, default_size=_side(self._trained_size))
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
        side = self.preprocessing.size // _side(self.config.patch_size)
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


def read_preprocessing(source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Return the settings a checkpoint's own preprocessor has (`image_mean`, `size`, ...); empty where it has none.

    Raises:
        AssetError: when the file is there and is not JSON.
    """
    for name in PREPROCESSING:
        file = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is None:
            continue
        try:
            settings: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
        except ValueError as error:
            raise AssetError(
                f"'{file}' is not JSON ({error}). It must be the file the checkpoint came with. Download it again."
            ) from error
        return settings.get("image_processor") or settings.get("video_processor") or settings
    return {}


def _preprocessing(settings: dict[str, Any], *, default_size: int) -> Preprocessing:
    # Some processors scale to -1..1 before they normalise: (x * 255 * factor - offset - mean) / std.
    scale = 255 * float(settings.get("rescale_factor", 1 / 255))
    offset = 1.0 if settings.get("offset") else 0.0
    normalizes = settings.get("do_normalize", True)
    mean = settings.get("image_mean", [0.5] * 3) if normalizes else [0.0] * 3
    std = settings.get("image_std", [0.5] * 3) if normalizes else [1.0] * 3
    size = (settings.get("crop_size") if settings.get("do_center_crop", True) else None) or settings.get("size")
    return Preprocessing(
        _side(size) if size else default_size,
        (float(offset + mean[0]) / scale, float(offset + mean[1]) / scale, float(offset + mean[2]) / scale),
        (float(std[0]) / scale, float(std[1]) / scale, float(std[2]) / scale),
    )


def _side(size: Any) -> int:
    if isinstance(size, dict):
        return int(size.get("height") or size.get("shortest_edge") or next(iter(size.values())))
    return int(size[0]) if isinstance(size, list | tuple) else int(size)
