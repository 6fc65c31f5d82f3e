"""How much the engine's reuse saves in a sequential minibatch, on given features: `make bench`.

The naive loop runs every adapter again in every sub-step, as the released code does; the engine runs each adapter once
and refreshes it after its own step. Both use the same kernels, model, batch and optimizer, and take turns in one run.
Moderate sizes: Q-Former 6 x 384 (cross-attention in 3 layers), T5 4 + 4 layers of width 512, batch 8, 4 frames, 32
queries, 65 x 512 features a frame, LoRA rank 64, self-gated fusion, random weights.

Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Blip2Config, Blip2ForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from crema_core.data.collate import TrainBatch
from crema_core.data.manifest import Record
from crema_core.modality import Features
from crema_core.model.build import build
from crema_core.model.crema import CremaModel
from crema_core.model.tokens import SenseFeatures
from crema_core.model.trainable import names_of, set_trainable
from crema_core.train.optim import clear_gradients
from crema_core.train.parts import make_stepper
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import Minibatch, Stepper
from crema_core.train.sync import Sync
from tests.support.backbones import word_tokenizer
from tests.support.senses import FramesModality, frames_spec

BATCH, FRAMES, TOKENS, WIDTH = 8, 4, 65, 512


def moderate_backbone(folder: Path) -> Path:
    """Save the moderate random backbone."""
    config = Blip2Config(
        vision_config={"hidden_size": WIDTH, "intermediate_size": 1024, "num_hidden_layers": 1,
                       "num_attention_heads": 8, "image_size": 64, "patch_size": 8},
        qformer_config={"vocab_size": 64, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
                        "intermediate_size": 1536, "encoder_hidden_size": WIDTH, "cross_attention_frequency": 2},
        text_config={"model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024,
                     "num_layers": 4, "num_decoder_layers": 4, "num_heads": 8, "feed_forward_proj": "gated-gelu",
                     "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
        num_query_tokens=32,
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def senses(count: int) -> list[object]:
    """Return specs of `count` per-frame senses, the first one major."""
    specs = [frames_spec("main")]
    for index in range(1, count):
        name = f"Sense{index}Modality"
        module = sys.modules[FramesModality.__module__]
        if not hasattr(module, name):
            setattr(module, name, type(name, (FramesModality,), {"__module__": FramesModality.__module__}))
        specs.append(frames_spec(f"sense_{index}", factory=f"{FramesModality.__module__}:{name}"))
    return list(specs)


def naive(stepper: Stepper, minibatch: Minibatch) -> None:
    """One sequential minibatch, everything again in each sub-step."""
    model = stepper.model
    questions = [record.question for record in minibatch.batch.records]
    answers = [record.answer for record in minibatch.batch.records]
    for active in model.names:
        names = names_of(model, [*stepper.adapters[active].values(), *stepper.fusion.values()])
        set_trainable(model, names)
        tokens = {name: model.sense_tokens(name, own) for name, own in minibatch.features.items()}
        model.loss(tokens, questions, answers).backward()
        stepper.optimizer.step()
        clear_gradients(stepper.parameters.values())


def engine(stepper: Stepper, minibatch: Minibatch) -> None:
    """One sequential minibatch by the engine."""
    set_trainable(stepper.model, names_of(stepper.model, stepper.parameters.values()))
    stepper.sequential([minibatch], stepper.model.names)


def random_minibatch(model: CremaModel, seed: int) -> Minibatch:
    """Features of every sense and questions of a few words."""
    generator = torch.Generator().manual_seed(seed)
    rows, mask = torch.arange(BATCH), torch.ones(BATCH, FRAMES, dtype=torch.bool)
    features = {
        name: SenseFeatures(Features(torch.randn(BATCH, FRAMES, TOKENS, WIDTH, generator=generator), mask), rows)
        for name in model.names
    }
    records = [
        Record(id=str(row), question="what is the color of a question ? " * 3, answer="red", sources={}, line=row)
        for row in range(BATCH)
    ]
    return Minibatch(TrainBatch(tuple(records), dict.fromkeys(model.names, rows), {}), features)


def measure(folder: Path, count: int, repeats: int) -> dict[str, float]:
    """Return median CPU seconds of both loops and the median of their pairwise ratio."""
    model = build(senses(count), backbone=folder, mmqa={"lora_rank": 64, "lora_dropout": 0.1})  # type: ignore[arg-type]
    stepper = make_stepper(model, TrainSettings(), trained=model.names, sync=Sync(precision="fp32", folder=folder))
    model.train()
    minibatch = random_minibatch(model, count)
    times: dict[str, list[float]] = {"naive": [], "engine": []}
    for _ in range(repeats + 1):
        for name, loop in (("naive", naive), ("engine", engine)):
            start = time.process_time()
            loop(stepper, minibatch)
            times[name].append(time.process_time() - start)
    pairs = [a / b for a, b in zip(times["naive"][1:], times["engine"][1:], strict=True)]
    return {
        "senses": count,
        "naive_cpu_s": round(statistics.median(times["naive"][1:]), 3),
        "engine_cpu_s": round(statistics.median(times["engine"][1:]), 3),
        "speedup": round(statistics.median(pairs), 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--senses", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = moderate_backbone(Path(place) / "backbone")
        rows = [measure(folder, count, options.repeats) for count in options.senses]
    print(f"{'senses':>6} {'naive CPU s':>12} {'engine CPU s':>13} {'speed-up':>9}")
    for row in rows:
        print(f"{row['senses']:>6} {row['naive_cpu_s']:>12} {row['engine_cpu_s']:>13} {row['speedup']:>9}")
    print(json.dumps({"benchmark": "sequential_minibatch", "torch": torch.__version__, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
