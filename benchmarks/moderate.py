"""The moderate setting of the speed benchmarks: large enough that arithmetic rules, small enough for one CPU core.

Q-Former 6 x 384 (6 heads, cross-attention in 3 layers), T5 4 + 4 layers of width 512 and 32,128 words, ViT 6 x 512 at
112 pixels (65 tokens a frame), batch 8, 4 frames, 32 queries, LoRA rank 64 with dropout 0.1, self-gated fusion, random
weights. The released code's figures in docs/fidelity.md were taken at these sizes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Blip2Config, Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record
from crema_core.data.dataset import TrainBatch
from crema_core.modality import Batch, Features, Modality, Sample
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins.spec import Capabilities, ModalitySpec
from crema_core.tokens import ModalityBatch
from crema_core.train.distributed import Distributed
from crema_core.train.settings import train_settings
from crema_core.train.steps import Stepper

BATCH, FRAMES, TOKENS, WIDTH, PIXELS = 8, 4, 65, 512, 112
MAX_MODALITIES = 6
Kind = Literal["features", "vision"]


class GivenFeatures(Modality):
    """Frames whose features are given."""

    def prepare(self, source: Any) -> Sample:
        """Pass the features on."""
        return Sample({"values": torch.as_tensor(source)})

    def encode(self, batch: Batch) -> Features:
        """Return what was given."""
        return Features(batch["values"], batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Any:
        """Return random features."""
        return torch.randn(FRAMES, TOKENS, WIDTH, generator=generator)


class GivenPixels(GivenFeatures):
    """Frames that go through the backbone's ViT."""

    def encode(self, batch: Batch) -> Features:
        """Run the ViT."""
        return Features(self.context.encode_frames(batch["values"]), batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Any:
        """Return random pixels."""
        return torch.randn(FRAMES, 3, PIXELS, PIXELS, generator=generator)


for _base in (GivenFeatures, GivenPixels):  # one class serves one modality
    for _index in range(MAX_MODALITIES):
        _name = f"{_base.__name__}{_index}"
        setattr(sys.modules[__name__], _name, type(_name, (_base,), {"__module__": __name__}))


def specs(count: int, kind: Kind) -> list[ModalitySpec]:
    """Return `count` per-frame modalities, the first one major."""
    base = GivenFeatures if kind == "features" else GivenPixels
    return [
        ModalitySpec(
            name=f"modality_{index}",
            summary="random frames",
            factory=f"{__name__}:{base.__name__}{index}",
            encoder=kind,
            feature_dim=WIDTH if kind == "features" else None,
            per_frame=True,
            prefix="Frame {index}: ",
            capabilities=Capabilities(default_major=index == 0),
        )
        for index in range(count)
    ]


def moderate_backbone(folder: Path) -> Path:
    """Save the random backbone."""
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config={"hidden_size": WIDTH, "intermediate_size": 2048, "num_hidden_layers": 6,
                       "num_attention_heads": 8, "image_size": PIXELS, "patch_size": 14},
        qformer_config={"vocab_size": 64, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
                        "intermediate_size": 1536, "encoder_hidden_size": WIDTH, "cross_attention_frequency": 2},
        text_config={"model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024,
                     "num_layers": 4, "num_decoder_layers": 4, "num_heads": 8, "feed_forward_proj": "gated-gelu",
                     "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
        num_query_tokens=32,
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def moderate_model(folder: Path, count: int, kind: Kind, *, fusion: str = "self_gated") -> CremaModel:
    """Build a model with `count` modalities; the same weights every time."""
    mmqa = {"lora_rank": 64, "lora_dropout": 0.1}
    return build(specs(count, kind), backbone=folder, mmqa=mmqa, fusion=fusion, seed=0)


def moderate_stepper(model: CremaModel, folder: Path, **settings: Any) -> Stepper:
    """Return the stepper of a run, everything trainable, in train mode."""
    chosen = train_settings(None, {"lr": 1e-4, **settings})
    distributed = Distributed(precision=chosen.precision, folder=folder)
    stepper = Stepper(model, chosen, trained=model.names, distributed=distributed)
    set_trainable(model, names_of(model, stepper.parameters.values()))
    model.train()
    return stepper


def random_batch(model: CremaModel, seed: int) -> tuple[TrainBatch, dict[str, ModalityBatch]]:
    """Return a batch of questions with every modality's random input; texts bring the prompt to about 324 tokens."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(BATCH)
    inputs = {
        name: ModalityBatch(
            modality.collate([modality.prepare(modality.example(generator)) for _ in range(BATCH)]), rows
        )
        for name, modality in ((name, model.branch(name).modality) for name in model.names)
    }
    question = " ".join(f"word{index}" for index in range(45))
    records = tuple(
        Record(id=str(row), question=question, answer=f"word{row} word1 word2", sources={}, line=row + 1)
        for row in range(BATCH)
    )
    return TrainBatch(records, dict.fromkeys(model.names, rows), inputs), inputs


def _tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "<unk>", "Option", *"ABCDEFGHIJ", *(f"word{index}" for index in range(64))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
