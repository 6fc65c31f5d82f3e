"""Golden cases of the released PAVE module, and small patches with random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from crema_pave.patch import PavePatch
from crema_pave.released import from_released_patch

DATA = Path(__file__).parents[2] / "plugins" / "crema-pave" / "tests" / "golden"


def tensors_of(name: str, prefix: str) -> dict[str, Tensor]:
    """Return a golden file's tensors whose names start with `prefix`, without it."""
    everything = load_file(DATA / f"{name}.safetensors")
    return {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}


def description(name: str) -> dict[str, Any]:
    """Return a golden file's description."""
    about: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return about


def cases_of(*names: str) -> list[tuple[str, str]]:
    """Return (file, case) of all cases in the files."""
    return [(name, case) for name in names for case in description(name)["cases"]]


@dataclass
class PatchCase:
    """One golden run of the released patch, and ours with its weights."""

    patch: PavePatch
    tensors: dict[str, Tensor]
    about: dict[str, Any]

    @property
    def queries(self) -> Tensor:
        """Visual tokens `(B, F, S, Q)` float64, so that they and the patch round nothing of a golden number's size."""
        count = len(self.about["query_shape_TSC"])
        return torch.stack([self.tensors[f"in_query_{number}"] for number in range(count)]).double()

    @property
    def side(self) -> Tensor:
        """Side tokens `(B, T, N, C)` float64, zero padded."""
        return self.tensors["in_side_padded"].flatten(2, 3).double()

    @property
    def side_mask(self) -> Tensor:
        """Real steps `(B, T)`."""
        return torch.arange(self.side.shape[1]) < self.tensors["in_side_lengths"][:, None]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the side tokens."""
        rows, columns = self.tensors["in_side_padded"].shape[2:4]
        return rows, columns


def load_case(name: str, case: str) -> PatchCase:
    """Build our patch from a golden file's released weights and read one of its cases."""
    about = description(name)
    config = about["config"]
    strides = config["sptial_stride"][1:] if config["fast_input_mapping_type"] == "conv" else ()
    weights = tensors_of(name, "param/")
    released = from_released_patch(weights, num_heads=config["num_cross_attn_head"], conv_strides=strides)
    return PatchCase(released.build().double(), tensors_of(name, f"case/{case}/"), about["cases"][case])


def random_patch(*, seed: int = 0, **settings: Any) -> PavePatch:
    """Return a small patch all of whose parameters are random, the last norm's too."""
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, Any] = {"side_dim": 6, "query_dim": 5, "output_dim": 7, "embed_dim": 16, "num_heads": 2}
    patch = PavePatch(**(sizes | settings))
    with torch.no_grad():
        for parameter in patch.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return patch
