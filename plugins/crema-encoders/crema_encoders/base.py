"""What the encoders of transformers have in common: configuration, weights and preprocessing of a checkpoint.

Shape letters: B samples, T frames, S steps in time (T, or fewer where an encoder joins frames), N patches of a step, D
feature width, M pictures or clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from crema_core.errors import AssetError, OptionsError, first_line
from crema_core.model.checkpoint import read_json
from crema_core.model.pretrained import load_frozen, read_config
from crema_core.video.vision_encoder import Preprocessing, VisionEncoder

MOST = 100_000
"""Of a side, a width or a count in a configuration."""
PREPROCESSING = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
UNFIT = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, StrictDataclassError)
"""What comes of settings that are absent or of another kind than those of the encoder."""
PIL_BILINEAR = 2  # how preprocessors of transformers and Pillow number it; everything else is bicubic here


class TransformersEncoder(VisionEncoder):
    """A vision encoder of transformers; a subclass names the class and the number of tokens before the patches."""

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
        """As the checkpoint's own preprocessor does; sizes of the model and 0.5 where it has none."""
        if self._preprocessing is None:
            settings = read_preprocessing(self.source, revision=self.revision)
            try:
                trained = preprocessing_of(settings, default_size=side_of(self._trained_size))
            except UNFIT as error:
                raise AssetError(
                    f"The preprocessing of '{self.source}' cannot be used: {first_line(error)}. Accepted is the "
                    f"{PREPROCESSING[0]} that the checkpoint came with. Download it again."
                ) from error
            self._preprocessing = at_size(trained, self.image_size)
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
        """See `VisionEncoder.load`."""
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


class ImageEncoder(TransformersEncoder):
    """A vision encoder that sees one picture at a time."""

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `VisionEncoder.forward`."""
        patches = self.tokens(frames_BTCHW.flatten(0, 1))[:, self.num_prefix_tokens :]
        patches_BTND: Tensor = patches.unflatten(0, tuple(frames_BTCHW.shape[:2]))
        return patches_BTND


class ClipTransformerEncoder(TransformersEncoder):
    """A vision encoder that sees a clip as tubes of several frames."""

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `VisionEncoder.forward`."""
        patches = self.tokens(frames_BTCHW)[:, self.num_prefix_tokens :]
        steps = frames_BTCHW.shape[1] // self.frames_per_step
        patches_BSND: Tensor = patches.unflatten(1, (steps, -1))
        return patches_BSND


def read_settings(source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Return the `config.json` of a checkpoint that is not one of transformers.

    Raises:
        AssetError: when it is no JSON object.
        OSError: when there is none.
    """
    found = read_json(source, "config.json", revision=revision, error=AssetError)
    if found is None:
        raise FileNotFoundError("there is no config.json")
    return found


def read_preprocessing(source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Return the settings a checkpoint's own preprocessor has (`image_mean`, `size`, ...); empty where it has none.

    Raises:
        AssetError: when the file is there and is not JSON.
    """
    for name in PREPROCESSING:
        settings = read_json(source, name, revision=revision, error=AssetError)
        if settings is not None:
            return settings.get("image_processor") or settings.get("video_processor") or settings
    return {}


def preprocessing_of(settings: dict[str, Any], *, default_size: int) -> Preprocessing:
    """Return what a checkpoint's preprocessor settings say.

    Args:
        settings: of `read_preprocessing`.
        default_size: side where they have none.
    """
    # Some processors scale to -1..1 before they normalise: (x * 255 * factor - offset - mean) / std.
    scale = 255 * float(settings.get("rescale_factor", 1 / 255))
    offset = 1.0 if settings.get("offset") else 0.0
    normalizes = settings.get("do_normalize", True)
    mean = settings.get("image_mean", [0.5] * 3) if normalizes else [0.0] * 3
    std = settings.get("image_std", [0.5] * 3) if normalizes else [1.0] * 3
    size = (settings.get("crop_size") if settings.get("do_center_crop", True) else None) or settings.get("size")
    return Preprocessing(
        side_of(size) if size else default_size,
        (float(offset + mean[0]) / scale, float(offset + mean[1]) / scale, float(offset + mean[2]) / scale),
        (float(std[0]) / scale, float(std[1]) / scale, float(std[2]) / scale),
        shorter=_shorter(settings),
        interpolation="bilinear" if settings.get("resample") == PIL_BILINEAR else "bicubic",
    )


def _shorter(settings: dict[str, Any]) -> int | None:
    size = settings.get("size")
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if size.get("shortest_edge") else None
    crops = settings.get("do_center_crop", True) and settings.get("crop_size")
    return int(size) if isinstance(size, int) and crops else None


def side_of(size: Any) -> int:
    """Return the side of a square that a configuration gives as a number, a pair or a mapping.

    Raises:
        ValueError: when it is no side of a picture.
    """
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or next(iter(size.values()), None)
    return whole(size[0] if isinstance(size, list | tuple) and size else size, what="the size of pictures")


def whole(value: Any, *, what: str) -> int:
    """Return a count that a configuration gives.

    Raises:
        ValueError: when it is none of 1 to `MOST`, which would divide by zero or allocate without end.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST:
        raise ValueError(f"{what} is {str(value)[:40]!r}, not a number of 1 to {MOST:,}")
    return int(value)


def at_size(trained: Preprocessing, size: int | None) -> Preprocessing:
    """Return the same for pictures of another size; None: as they are."""
    if size is None or size == trained.size:
        return trained
    shorter = None if trained.shorter is None else round(trained.shorter * size / trained.size)
    return trained._replace(size=size, shorter=shorter)
