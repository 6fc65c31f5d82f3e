"""(a) The engine against the naive loop: CPU time of a sequential minibatch with n modalities.

Three kinds of work: on given features (both loops), with the ViT online (the naive loop runs it in every sub-step, the
engine once), and with the ViT's features cached (the engine alone has a cache). "lean" is the engine with settings that
need no more memory than the naive loop: two graphs wait, and the language model reads two, then three, then all eight
samples at once. Same kernels, model, batch, optimizer, and for all of them the allocator as training sets it up, or as
it is (`--allocator default`).
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import alternate, median, ratio, report
from benchmarks.moderate import moderate_backbone, moderate_model, moderate_stepper, random_batch
from benchmarks.naive import naive_minibatch
from crema_core.model.allocator import retain_freed_memory
from crema_core.train.steps import Minibatch, Stepper

Row = dict[str, object]
LEAN: dict[str, Any] = {"retained_graphs": 2, "micro_batch_size": (2, 3, 8)}


def lean_stepper(stepper: Stepper) -> Stepper:
    """Return a stepper of the same model and optimizer whose updates need less memory."""
    lean = copy(stepper)
    lean.settings = stepper.settings.model_copy(update=LEAN)
    return lean


def on_given_features(folder: Path, count: int, repeats: int) -> Row:
    """Compare both loops where no encoder runs."""
    model = moderate_model(folder, count, "features")
    stepper = moderate_stepper(model, folder)
    batch, inputs = random_batch(model, count)
    lean = lean_stepper(stepper)
    kept = model.encode(inputs)
    seconds = alternate(
        {
            "naive": lambda: naive_minibatch(stepper, batch, inputs, order=model.names, given=kept),
            "engine": lambda: stepper.sequential([Minibatch(batch, kept)], model.names),
            "lean": lambda: lean.sequential([Minibatch(batch, kept)], model.names),
        },
        repeats=repeats,
    )
    with torch.no_grad():
        tokens = {name: model.modality_tokens(name, own) for name, own in kept.items()}
        length = model.prompt(tokens, [record.question for record in batch.records]).embeds.shape[1]
    return {
        "prompt": length,
        "naive_s": median(seconds["naive"]),
        "engine_s": median(seconds["engine"]),
        "lean_s": median(seconds["lean"]),
        "given": round(ratio(seconds, "naive", "engine"), 2),
        "given_lean": round(ratio(seconds, "naive", "lean"), 2),
    }


def with_vision(folder: Path, count: int, repeats: int) -> Row:
    """Compare the naive loop that runs the ViT with the engine that runs it once, or not at all."""
    model = moderate_model(folder, count, "vision")
    stepper = moderate_stepper(model, folder)
    batch, inputs = random_batch(model, count)
    lean = lean_stepper(stepper)
    kept = model.encode(inputs)
    seconds = alternate(
        {
            "naive": partial(naive_minibatch, stepper, batch, inputs, order=model.names),
            "online": lambda: stepper.sequential([Minibatch(batch, model.encode(inputs))], model.names),
            "cached": lambda: stepper.sequential([Minibatch(batch, kept)], model.names),
            "online_lean": lambda: lean.sequential([Minibatch(batch, model.encode(inputs))], model.names),
            "cached_lean": lambda: lean.sequential([Minibatch(batch, kept)], model.names),
        },
        repeats=repeats,
    )
    return {
        "naive_vit_s": median(seconds["naive"]),
        "engine_vit_s": median(seconds["online"]),
        "engine_cached_s": median(seconds["cached"]),
        **{way: round(ratio(seconds, "naive", way), 2) for way in ("online", "cached", "online_lean", "cached_lean")},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--allocator", choices=("training", "default"), default="training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    allocator = retain_freed_memory() if options.allocator == "training" else nullcontext()
    with tempfile.TemporaryDirectory() as place, allocator:
        folder = moderate_backbone(Path(place) / "backbone")
        for count in options.modalities:
            given = on_given_features(folder, count, options.repeats)
            rows.append({"modalities": count, **given, **with_vision(folder, count, options.repeats)})
    report("sequential_minibatch", rows, unit="CPU seconds of one thread", allocator=options.allocator)


if __name__ == "__main__":
    main()
