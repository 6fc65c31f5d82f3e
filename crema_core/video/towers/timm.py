"""Any vision transformer of timm, EVA-CLIP and EVA-02 among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
from torch import Tensor
from transformers.utils.hub import cached_file

from crema_core.errors import AssetError, OptionsError
from crema_core.model.trainable import freeze
from crema_core.video.towers.base import Preprocessing, Tower


class TimmTower(Tower):
    """A timm checkpoint: hub id such as `timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k`, or its folder."""

    name = "timm"

    @property
    def settings(self) -> dict[str, Any]:
        """The checkpoint's `config.json`.

        Raises:
            AssetError: when it is absent or no configuration of timm.
        """
        try:
            file = cached_file(self.source, "config.json", revision=self.revision)
            found: dict[str, Any] = json.loads(Path(str(file)).read_text(encoding="utf-8"))
            found["architecture"], found["num_features"], found["pretrained_cfg"]["input_size"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise AssetError(
                f"'{self.source}' holds no checkpoint of timm: {reason}. Accepted: a hub id, or a folder with timm's "
                "config.json and model.safetensors. Check the name, or download it and name its folder."
            ) from error
        return found

    @property
    def preprocessing(self) -> Preprocessing:
        """What the checkpoint was trained with."""
        trained = self.settings["pretrained_cfg"]
        mean, std = trained.get("mean", (0.5,) * 3), trained.get("std", (0.5,) * 3)
        return Preprocessing(int(trained["input_size"][-1]), tuple(mean), tuple(std))

    @property
    def feature_dim(self) -> int:
        """Width D."""
        return int(self.settings["num_features"])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns; known once the weights are there."""
        assert self.model is not None, "load() reads the weights"
        rows, columns = self.model.patch_embed.grid_size
        return int(rows), int(columns)

    def load(self) -> None:
        """See `Tower.load`."""
        if self.layer != -1:
            raise OptionsError(
                f"layer={self.layer} was asked of a timm encoder. Accepted: -1, the last. Leave layer out, or use a "
                "checkpoint of transformers."
            )
        architecture = self.settings["architecture"]
        place = f"local-dir:{self.source}" if Path(self.source).is_dir() else f"hf-hub:{self.source}"
        revision = f"@{self.revision}" if self.revision and place.startswith("hf-hub:") else ""
        try:
            model = timm.create_model(place + revision, pretrained=True, num_classes=0)
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise AssetError(
                f"The weights of '{self.source}' cannot be read: {reason}. Accepted: a complete checkpoint of timm in "
                "safetensors format. Download or copy it again."
            ) from error
        if not hasattr(model, "num_prefix_tokens") or not hasattr(getattr(model, "patch_embed", None), "grid_size"):
            raise AssetError(
                f"'{self.source}' is a '{architecture}', which has no patch tokens. Accepted: vision transformers of "
                "timm. Name another checkpoint."
            )
        freeze(model)
        self.model = model.eval().to(self.dtype)

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """See `Tower.forward`."""
        assert self.model is not None, "load() reads the weights"
        tokens = self.model.forward_features(frames_BTCHW.flatten(0, 1).to(self.dtype))
        patches = tokens[:, self.model.num_prefix_tokens :]
        patches_BTND: Tensor = patches.unflatten(0, tuple(frames_BTCHW.shape[:2]))
        return patches_BTND
