"""Golden tensors of the released MERV code, and weights in the layout of its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from crema_core.common.tensors import copy_state
from crema_core.modality import Batch, FeaturePart, Features, Modality, Sample
from crema_merv.alignment import align_encoders
from crema_merv.merv import Merv
from crema_merv.mixers import Mixed, Mixer
from crema_merv.projectors import Projected, Projector
from crema_merv.released import projector_state

GOLDEN = Path(__file__).parents[2] / "plugins" / "crema-merv" / "tests" / "golden"
KINDS: dict[str, dict[str, Any]] = {
    "avg2d_linear": {},
    "avg2d_gelu-mlp": {"map_kind": "gelu_mlp"},
    "avg2d_fused-gelu-mlp": {"map_kind": "fused_gelu_mlp"},
    "avg2d_out3_linear": {"token_grid": (3, 3)},
    "attentive_linear": {"kind": "attentive"},
    "conv2d_linear": {"kind": "conv", "num_blocks": 1},
    "avg3d_linear": {"kind": "average_3d", "num_steps": 4},
    "avg3d_half_frames_linear": {"kind": "average_3d", "num_steps": 2},
    "conv3d_linear": {"kind": "conv_3d", "num_steps": 2},
}
ENCODERS = ("enc0", "enc1", "enc2", "enc3")


def load(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read one golden file and its description."""
    about: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return about, load_file(GOLDEN / f"{name}.safetensors")


def below(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """Return the tensors under a name, without it."""
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def layout_of(about: dict[str, Any], case: str, encoder: str) -> FeaturePart:
    """Return the sizes of a golden encoder."""
    sizes = about["cases"][case][encoder]
    return FeaturePart(encoder, sizes["frames"], sizes["rows"], sizes["cols"], sizes["width"])


class GoldenEncoders(Modality):
    """Takes what the four golden encoders gave for a clip."""

    feature_parts = tuple(layout_of(load("projectors")[0], "avg2d_linear", encoder) for encoder in ENCODERS)

    def prepare(self, source: Any) -> Sample:
        return Sample({"packed": torch.as_tensor(source).reshape(1, 1, -1)})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["packed"], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.feature_dim, generator=generator)


def golden_projector(about: dict[str, Any], tensors: dict[str, Tensor], case: str, encoder: str) -> Projector:
    """Build our projector with the golden weights."""
    options = {"token_grid": (2, 2), **KINDS[case]}
    projector = Projector(layout_of(about, case, encoder), width=about["llm_width"], **options)
    copy_state(dict(projector.named_parameters()), projector_state(below(tensors, f"{case}/{encoder}/param/")))
    return projector


def golden_merv(about: dict[str, Any], case: str, **options: Any) -> Merv:
    """Build untrained projectors and a mixer for the four golden encoders."""
    layout = [layout_of(about, case, encoder) for encoder in ENCODERS]
    settings = dict(KINDS[case])
    named = {"projector": settings.pop("kind", "average"), "token_grid": (2, 2), **settings, **options}
    return Merv(layout, width=about["llm_width"], **named)


def released_projectors(tensors: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    """Return the weights of all golden encoders' projectors as a checkpoint has them."""
    return {
        f"{index}.{key}": value
        for index, encoder in enumerate(ENCODERS)
        for key, value in below(tensors, f"{case}/{encoder}/param/").items()
    }


def released_fusion(tensors: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    """Return the weights of a golden mixer as a checkpoint has them."""
    return below(tensors, f"case/{case}/param/")


def mixed(mixer: Mixer, sequences: list[Tensor], *, steps: int = 4, present: Tensor | None = None) -> Mixed:
    """Mix golden sequences `(B, T * K, L)`; a single token is a step of its own."""
    projected = []
    for values in sequences:
        count = steps if values.shape[1] > 1 else 1
        mask = torch.ones(len(values), count, dtype=torch.bool)
        projected.append(Projected(values.unflatten(1, (count, -1)), mask))
    aligned = align_encoders(projected, present)
    result: Mixed = mixer(*aligned)
    return result
