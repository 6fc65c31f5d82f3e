from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import crema_core
from crema_core.contract import AssetError, Preprocessing, VisionEncoder


class PatchEncoder(VisionEncoder):
    """Patches of 8 by 8 pixels through one linear map; weights from `model.safetensors` in a folder."""

    name = "patches_of_8"

    def __init__(self, source: str | None = None, **settings: Any) -> None:
        super().__init__(source, **settings)
        self.model = nn.Conv2d(3, 48, kernel_size=8, stride=8)

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    @property
    def feature_dim(self) -> int:
        return 48

    @property
    def grid(self) -> tuple[int, int]:
        return 4, 4

    def load(self) -> None:
        path = Path(self.source) / "model.safetensors"
        if not path.is_file():
            raise AssetError(f"'{path}' does not exist. The encoder needs its weights. Set the option weights.")
        self.model.load_state_dict(load_file(path))
        self.model.requires_grad_(False).to(self.dtype)

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        patches: Tensor = self.model(frames_BTCHW.flatten(0, 1).to(self.dtype))  # (B * T, D, rows, columns)
        tokens: Tensor = patches.flatten(2).transpose(1, 2).unflatten(0, frames_BTCHW.shape[:2])  # (B, T, N, D)
        return tokens


crema_core.registry.register(PatchEncoder, kind="encoder", name="patches_of_8")
Path("weights").mkdir()
save_file(PatchEncoder().model.state_dict(), "weights/model.safetensors")
video = {"name": "video", "encoder": "patches_of_8", "weights": "weights"}
model = crema_core.build(modalities=[video], backbone="crema-tiny")
frames = torch.zeros(4, 3, 60, 80, dtype=torch.uint8)
print(model.branch("video").modality.feature_dim, model.answer("what is it ?", ["red", "blue"], video=frames).used)
