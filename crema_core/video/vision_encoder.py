"""Vision encoders: frozen encoders of frames and clips beside the backbone's own, what each offers and how one is
found.

Every modality that sees may use them, and a strategy may run several on one clip. A package adds one with an entry
point of the group `crema.encoders` that names a subclass of `VisionEncoder`; crema-encoders adds the usual ones.

Shape letters: B samples, T frames, S steps in time (T, or fewer where a vision encoder joins frames), N patches of a
step, D feature width.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from crema_core.data.images import resize
from crema_core.errors import AssetError, OptionsError, did_you_mean
from crema_core.plugins import registry

RGB = tuple[float, float, float]
Interpolation = Literal["bilinear", "bicubic"]


def vision_encoder_names() -> tuple[str, ...]:
    """Return the names of all vision encoders that installed packages add."""
    return registry.usable_names("encoder")


def vision_encoder_class(name: str) -> type[VisionEncoder]:
    """Import a vision encoder's class.

    Args:
        name: `name` or `distribution:name`.

    Raises:
        OptionsError: when there is none of this name; it names what is near or what to install.
        PluginError: when an installed package's cannot be imported, names no `VisionEncoder`, or is not the only one.
    """
    bare = name.rpartition(":")[2]
    if bare not in registry.installed_names("encoder"):
        accepted = f"'{name}' is no vision encoder. Accepted: {', '.join(('backbone', *vision_encoder_names()))}."
        package = registry.known_packages("encoder").get(bare)
        if package is not None:
            raise OptionsError(f"{accepted} '{bare}' is provided by {package}. Run: pip install {package}")
        near = did_you_mean(name, ("backbone", *registry.known_names("encoder")))
        raise OptionsError(f"{accepted}{near} Use one of these, or install the package that adds it.")
    found: type[VisionEncoder] = registry.load("encoder", name)
    return found


class VisionEncoder(nn.Module, abc.ABC):
    """A frozen encoder of frames or clips.

    Args:
        source: hub id or folder of its weights; None: `default_weights`.
        revision: commit, tag or branch on the hub.
        layer: whose output is taken: -1 the last (with the model's final norm, where it has one), -2 the one before.
        dtype: number format of the weights.
        image_size: side of the square pictures, for vision encoders that take any; None: as trained.

    Raises:
        OptionsError: when another size is asked of a vision encoder that takes one only.

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
        """Frames it joins into one step; 1 for vision encoders of single pictures."""
        return 1

    def frames_wanted(self, num_frames: int) -> int:
        """Return how many frames of a clip it processes when `num_frames` are asked for."""
        return num_frames

    @property
    def sees_clips(self) -> bool:
        """Whether frames are processed together; such an encoder gets exactly `frames_wanted` frames of a source."""
        return self.frames_per_step > 1

    def prepare(self, frames_TCHW: Tensor) -> Tensor:
        """Squash whole pictures into the square, so that nothing at their sides is lost, and normalise them.

        Args:
            frames_TCHW: `(T, 3, H, W)` uint8 0..255 or float 0..1, of any size.

        Returns:
            `(T, 3, size, size)` normalised float32.
        """
        return self.preprocessing.normalize(resize(frames_TCHW, self.preprocessing.size))

    @abc.abstractmethod
    def load(self) -> None:
        """Read the weights.

        Raises:
            AssetError: when they cannot be had.
        """

    @abc.abstractmethod
    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """Encode frames from `prepare`: `(B, T, 3, size, size)` -> `(B, S, N, D)`, patches only."""


class Preprocessing(NamedTuple):
    """How a vision encoder wants its pixels.

    Attributes:
        size: side of the square pictures.
        mean, std: of every channel, for pixels in 0..1.
        shorter: side the picture's shorter one is scaled to before the middle square is cut out; None: the whole
            picture is squashed into the square.
        interpolation: how.
    """

    size: int
    mean: RGB
    std: RGB
    shorter: int | None = None
    interpolation: Interpolation = "bicubic"

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalise `(..., 3, H, W)` float pixels in 0..1."""
        return (pixels - pixels.new_tensor(self.mean).view(3, 1, 1)) / pixels.new_tensor(self.std).view(3, 1, 1)
