"""What could still be left out of the arithmetic, and what it would save.

(a) In eval mode the queries' first self-attention in the Q-Former is the same for every frame: once instead of once a
frame. (b) Query, key and value of a frozen self-attention as one product of three times the width. (c) Texts read by
the tokenizer again in every sub-step of a minibatch.

    python -m benchmarks.left --repeats 7
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from benchmarks.measure import alternate, median, ratio, report
from benchmarks.moderate import (
    BATCH,
    FRAMES,
    TOKENS,
    WIDTH,
    moderate_backbone,
    moderate_model,
    moderate_stepper,
    random_batch,
    specs,
)
from crema_core.api.build import build
from crema_core.train.steps import Minibatch, Stepper

Row = dict[str, object]
FROZEN = {
    "T5 of the moderate sizes": (8 * 324, 512),
    "T5 XL, 8 x 160 tokens": (8 * 160, 2048),
    "T5 XL, one question": (317, 2048),
    "Q-Former, 32 passes": (32 * 32, 768),
}
"""Rows and width of the input of a self-attention."""


def first_attention(folder: Path, repeats: int) -> Row:
    """Compare a pass of the Q-Former with one whose first self-attention is that of one frame, repeated."""
    model = moderate_model(folder, 1, "features")
    model.eval()
    adapter = model.branch(model.names[0]).adapter
    keys_MNE = torch.randn(BATCH * FRAMES, TOKENS, WIDTH)
    attention: Any = adapter.qformer.model.encoder.layer[0].attention
    own = attention.forward

    def of_one_frame(**given: Any) -> Any:
        frames = len(given["hidden_states"])
        first = {key: one[:1] if isinstance(one, Tensor) and len(one) == frames else one for key, one in given.items()}
        found = own(**first)
        return found.expand(frames, -1, -1) if isinstance(found, Tensor) else (found[0].expand(frames, -1, -1),)

    @torch.no_grad()
    def run(forward: Callable[..., Any]) -> Tensor:
        attention.forward = forward
        return adapter.qformer(adapter.name, adapter.queries, keys_MNE)

    difference = float((run(own) - run(of_one_frame)).abs().max())
    seconds = alternate({"now": lambda: run(own), "shared": lambda: run(of_one_frame)}, repeats=repeats)
    return _row("first self-attention of one frame", seconds, "shared") | {"largest_difference": difference}


def fused_products(repeats: int) -> list[Row]:
    """Compare three products of an input with one, forward and backward to the input."""
    rows = []
    for name, (positions, width) in FROZEN.items():
        apart = [torch.randn(width, width) * width**-0.5 for _ in range(3)]
        joined = torch.cat(apart)
        states = torch.randn(positions, width).requires_grad_()
        gradients = [torch.randn(positions, width) for _ in range(3)]

        def three(states: Tensor = states, weights: list[Tensor] = apart, back: list[Tensor] = gradients) -> None:
            torch.autograd.backward([F.linear(states, weight) for weight in weights], back)

        def one(states: Tensor = states, weight: Tensor = joined, back: list[Tensor] = gradients) -> None:
            torch.autograd.backward(list(F.linear(states, weight).chunk(3, dim=-1)), back)

        rows.append(_row(name, alternate({"now": three, "fused": one}, repeats=repeats), "fused"))
    return rows


def tokenizing(repeats: int) -> Row:
    """Compare sequential minibatches in which texts are read in every sub-step with ones that read them once."""
    with tempfile.TemporaryDirectory() as folder:
        model = build(specs(3, "features"), backbone="crema-tiny", seed=0)
        stepper = moderate_stepper(model, Path(folder))
        batch, features = random_batch(model, 0)
        minibatch = Minibatch(batch, dict(features))

        def every_time() -> None:
            Stepper.sequential.__wrapped__(stepper, [minibatch], model.names)  # type: ignore[attr-defined]

        def once() -> None:
            stepper.sequential([minibatch], model.names)

        seconds = alternate({"now": every_time, "once": once}, repeats=repeats)
    return _row("texts of 3 sub-steps, crema-tiny", seconds, "once")


def count_first_attention() -> Row:
    """Count what the first self-attention is of a Q-Former's pass at the size of BLIP-2 FlanT5-XL, 257 patches."""
    config = Blip2QFormerConfig(encoder_hidden_size=1408)
    with torch.device("meta"), torch.no_grad():
        qformer = Blip2QFormerModel(config).eval()
        queries, keys = torch.empty(1, 32, config.hidden_size), torch.empty(1, 257, config.encoder_hidden_size)
        with FlopCounterMode(display=False) as whole:
            qformer(query_embeds=queries, encoder_hidden_states=keys)
        with FlopCounterMode(display=False) as first:
            qformer.encoder.layer[0].attention(hidden_states=queries)
    part, all_of_it = first.get_total_flops(), whole.get_total_flops()
    return {"work": "first self-attention, full size", "GFLOP": round(all_of_it / 1e9, 2),
            "of_which": round(part / 1e9, 2), "share": round(part / all_of_it, 4)}  # fmt: skip


def _row(name: str, seconds: dict[str, list[float]], other: str) -> Row:
    return {
        "work": name,
        "now_s": median(seconds["now"]),
        f"{other}_s": median(seconds[other]),
        "times_faster": round(ratio(seconds, "now", other), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        rows = [first_attention(moderate_backbone(Path(place)), repeats)]
    report("arithmetic left", [*rows, count_first_attention(), *fused_products(repeats), tokenizing(repeats)])


if __name__ == "__main__":
    main()
