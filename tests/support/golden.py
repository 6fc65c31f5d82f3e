"""Golden cases: build our model from a case's released state dict through the public converter.

The converter is crema-benchmarks'; tests that need it are skipped where core is installed alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Blip2Config, PreTrainedTokenizerFast

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.modality import Batch, Features, Modality, Sample
from crema_core.plugins.spec import Capabilities, MMQASpec, ModalitySpec
from crema_core.tokens import ModalityFeatures, ModalityTokens
from tests.support.lavis import backbone_from_lavis

released = pytest.importorskip("crema_benchmarks.released")

DATA = Path(os.environ.get("CREMA_GOLDEN", Path(__file__).parents[1] / "golden" / "data"))
RELEASED = ("rgb", "depth", "flow", "norm", "audio", "pc")


class FeatureModality(Modality):
    """Takes encoder output as it is."""

    def prepare(self, source: Any) -> Sample:
        return Sample({"features": torch.as_tensor(source)})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["features"], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.randn(1, 2, self.feature_dim, generator=generator)


def _spec(name: str, feature_dim: int, **changes: Any) -> ModalitySpec:
    class_name = f"Golden{name.title()}"
    globals()[class_name] = type(class_name, (FeatureModality,), {"__module__": __name__})
    return ModalitySpec(
        name=f"g_{name}",
        released_name=name,
        summary="golden features",
        factory=f"{__name__}:{class_name}",
        encoder="features",
        feature_dim=feature_dim,
        **changes,
    )


@dataclass
class Case:
    """One golden file: tensors, description, and our model."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    model: CremaModel

    @property
    def names(self) -> list[str]:
        """Released names of the modalities in order."""
        names: list[str] = self.about["modalities_in_order"]
        return names

    def features(self, name: str) -> ModalityFeatures:
        """Encoder output of one modality, as the released code had it."""
        batch = self.about["batch"]
        if name == "pc":
            values = self.tensors["encoded.pc"][:, None]
        else:
            values = self.tensors[f"enc_out.{name}"]
            values = values if values.dim() == 4 else values.unflatten(0, (batch, -1))
        times = None
        if name == "audio":  # what has a clock of its own gets no prefix beside others in the released layout
            edges = torch.arange(values.shape[1] + 1.0)
            times = torch.stack([edges[:-1], edges[1:]], dim=1).expand(batch, -1, -1)
        return ModalityFeatures(
            Features(values, torch.ones(values.shape[:2], dtype=torch.bool), times), torch.arange(batch)
        )

    def tokens(self) -> dict[str, ModalityTokens]:
        """All modalities through our adapters."""
        return {f"g_{name}": self.model.modality_tokens(f"g_{name}", self.features(name)) for name in self.names}

    @property
    def questions(self) -> list[str]:
        """The questions' texts."""
        questions: list[str] = self.about["text"]["questions"]
        return questions

    @property
    def answers(self) -> list[str]:
        """The answers' texts."""
        answers: list[str] = self.about["text"]["answers"]
        return answers


def tokenizer() -> PreTrainedTokenizerFast:
    """The toy tokenizer of the golden files."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(DATA / "tiny_tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def blip2_config(config: dict[str, Any]) -> Blip2Config:
    """The case's sizes as a BLIP-2 configuration; T5 with exact GELU, as the released code sets it."""
    vit, t5 = config["vit"], dict(config["t5"])
    blip2 = Blip2Config(
        vision_config={
            "hidden_size": vit["embed_dim"],
            "intermediate_size": int(vit["embed_dim"] * vit["mlp_ratio"]),
            "num_hidden_layers": vit["depth"],
            "num_attention_heads": vit["num_heads"],
            "image_size": vit["img_size"],
            "patch_size": vit["patch_size"],
            "hidden_act": "gelu",
        },
        qformer_config={
            **{key: value for key, value in config["qf"].items() if key != "vocab_size"},
            "encoder_hidden_size": config["feat"],
            "cross_attention_frequency": 2,
        },
        text_config={"model_type": "t5", **t5, "dense_act_fn": "gelu"},
        num_query_tokens=config["num_query"],
    )
    blip2.text_config.dense_act_fn, blip2.text_config.tie_word_embeddings = "gelu", False
    blip2.text_config.is_gated_act = True
    return blip2


def load_case(name: str, folder: Path, *, dtype: torch.dtype = torch.float32, without_lora: Sequence[str] = ()) -> Case:
    """Build the model of a golden case through the converters; in float64 its rounding is no part of a comparison.

    Args:
        name: of the case.
        folder: where its backbone is written.
        dtype: of the model.
        without_lora: released names of modalities whose LoRA is left out.
    """
    about = json.loads((DATA / f"{name}.json").read_text())
    tensors = load_file(DATA / f"{name}.safetensors")
    return Case(tensors, about, build_model(about, tensors, folder, without_lora=without_lora).to(dtype))


def build_model(
    about: dict[str, Any],
    tensors: dict[str, Tensor],
    folder: Path,
    prefix: str = "state.",
    *,
    without_lora: Sequence[str] = (),
) -> CremaModel:
    """Build a model with the modalities, weights and layout of a golden description."""
    state = load_file(DATA / "weights.safetensors")
    config = about["config"]
    if not folder.exists():
        backbone_from_lavis(state, blip2_config(config), tokenizer(), folder, modalities=RELEASED)
    state |= {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    names = about["modalities_in_order"]
    fused = "espresso" in about["task_flags"]
    model = build(
        [request(name, config, alone=len(names) == 1, lora=name not in without_lora) for name in names],
        backbone=folder,
        fusion={"name": "self_gated" if fused else "concat", "layout": "released"},
        template={"max_question_tokens": 77, "choice_scoring": "released"},
    )
    used = {
        key: value
        for key, value in state.items()
        if not any(key.endswith(f"_{other}") or f"_{other}." in key for other in RELEASED if other not in names)
    }
    released.load_released(model, used)
    return model


def request(name: str, config: dict[str, Any], *, alone: bool, lora: bool = True) -> dict[str, Any] | ModalitySpec:
    """A modality as the released code treats it."""
    visual = name in ("rgb", "depth", "flow", "norm")
    prefix = {"audio": "Audio: ", "pc": "Audio: " if alone else "3D Model: "}.get(name, "Frame {index}: ")
    return _spec(
        name,
        config["beats"]["encoder_embed_dim"] if name == "audio" else config["feat"],
        prefix=prefix,
        per_frame=visual,
        mmqa=MMQASpec(norm=name != "pc", lora_rank=config["rank"] if lora else 0, lora_dropout=0.0),
        capabilities=Capabilities(default_major=name == "rgb"),
    )
