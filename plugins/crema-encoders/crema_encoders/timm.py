"""Any vision transformer of timm, EVA-CLIP and EVA-02 among them."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from crema_core.common.tensors import no_room
from crema_core.errors import AssetError, OptionsError, first_line
from crema_core.model.revisions import revision_of
from crema_core.model.trainable import freeze
from crema_core.video.vision_encoder import Preprocessing, VisionEncoder
from crema_encoders.base import UNFIT, at_size, read_settings, whole


class TimmEncoder(VisionEncoder):
    """A timm checkpoint: hub id such as `timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k`, or its folder."""

    name = "timm"
    takes_any_size = True

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The checkpoint's `config.json`.

        Raises:
            AssetError: when it is absent or no configuration of timm.
        """
        try:
            found = read_settings(self.source, revision=self.revision)
            if not isinstance(found["architecture"], str):
                raise ValueError("its architecture is no name")
            whole(found["num_features"], what="num_features")
            trained_preprocessing(found["pretrained_cfg"])
        except UNFIT as error:
            raise AssetError(
                f"'{self.source}' holds no checkpoint of timm: {first_line(error)}. Accepted: a hub id, or a folder "
                "with timm's config.json and model.safetensors. Check the name, or download it and name its folder."
            ) from error
        return found

    @property
    def preprocessing(self) -> Preprocessing:
        """What the checkpoint was trained with."""
        return at_size(trained_preprocessing(self.settings["pretrained_cfg"]), self.image_size)

    @property
    def feature_dim(self) -> int:
        """Width D."""
        return int(self.settings["num_features"])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        model = self._skeleton if self.model is None else self.model
        rows, columns = model.patch_embed.grid_size
        return int(rows), int(columns)

    @functools.cached_property
    def _skeleton(self) -> Any:
        # Its sizes are in no file: they follow from the architecture's code. Nothing is allocated.
        with torch.device("meta"):
            return self._create(pretrained=False)

    def load(self) -> None:
        """See `VisionEncoder.load`."""
        model = self._create(pretrained=True)
        if not -len(model.blocks) <= self.layer <= -1:
            raise OptionsError(
                f"layer={self.layer} is none of '{self.source}'. Accepted: -1 (the last) to -{len(model.blocks)}. "
                "Leave layer out for the last."
            )
        freeze(model)
        self.model = model.eval().to(self.dtype)

    def _create(self, *, pretrained: bool) -> Any:
        architecture = self.settings["architecture"]
        place = f"local-dir:{self.source}" if Path(self.source).is_dir() else f"hf-hub:{self.source}"
        commit = revision_of(self.source, self.revision)
        revision = f"@{commit}" if commit and place.startswith("hf-hub:") else ""
        size: dict[str, Any] = {} if self.image_size is None else {"img_size": self.image_size}
        try:
            model = timm.create_model(place + revision, pretrained=pretrained, num_classes=0, **size)
        except Exception as error:
            raise no_room(self.source, error) or AssetError(
                f"The weights of '{self.source}' cannot be read: {first_line(error)}. Accepted: a complete "
                "checkpoint of timm in safetensors format. Download or copy it again."
            ) from error
        if not hasattr(model, "num_prefix_tokens") or not hasattr(getattr(model, "patch_embed", None), "grid_size"):
            raise AssetError(
                f"'{self.source}' is a '{architecture}', which has no patch tokens. Accepted: vision transformers of "
                "timm. Name another checkpoint."
            )
        return model

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `VisionEncoder.forward`; a layer before the last has no final norm; those after it are not run."""
        assert self.model is not None, "load() reads the weights"
        pixels = frames_BTCHW.flatten(0, 1).to(self.dtype)
        if self.layer == -1:
            patches = self.model.forward_features(pixels)[:, self.model.num_prefix_tokens :]
        else:
            wanted = [len(self.model.blocks) + self.layer]
            (patches,) = self.model.forward_intermediates(
                pixels, indices=wanted, norm=False, stop_early=True, output_fmt="NLC", intermediates_only=True
            )
        patches_BTND: Tensor = patches.unflatten(0, tuple(frames_BTCHW.shape[:2]))
        return patches_BTND


def trained_preprocessing(settings: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing that timm's `pretrained_cfg` states."""
    mean, std = settings.get("mean", (0.5,) * 3), settings.get("std", (0.5,) * 3)
    size = whole(settings["input_size"][-1], what="input_size")
    crops = settings.get("crop_mode", "center") == "center"
    return Preprocessing(
        size,
        (float(mean[0]), float(mean[1]), float(mean[2])),
        (float(std[0]), float(std[1]), float(std[2])),
        shorter=math.floor(size / float(settings.get("crop_pct") or 1)) if crops else None,
        interpolation="bilinear" if settings.get("interpolation") == "bilinear" else "bicubic",
    )
