"""PAVE's patch at the sizes of its published runs: time, and peak memory in a process of its own.

Two ways of one and the same computation: this package's patch, and the released configuration "written out" from its
description, each operation as it stands there, with everything kept that autograd keeps. 32 frames of 196 queries, 1152
wide, language model 896 wide, batch 1, float32, the backward pass of mean(update ** 2) to the parameters.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import peak_megabytes, report
from crema_pave.layer import PaveLayer
from crema_pave.patch import PavePatch

SIZES = {
    "sound, 120 tokens": (120, 1, 1024),
    "dense video, 960": (240, 4, 1024),
    "points, 18,432": (32, 576, 1024),
    "further cameras, 25,088": (32, 784, 1152),
}
"""Steps of the side tokens, tokens of a step, width."""
FRAMES, QUERIES, QUERY_DIM, OUTPUT_DIM = 32, 196, 1152, 896
Way = Callable[[PavePatch, Tensor, Tensor], Tensor]


def here(patch: PavePatch, queries: Tensor, side: Tensor) -> Tensor:
    """Return the update `(1, F, S, L)` as this package computes it; arguments as of `written_out`."""
    update: Tensor = patch(queries, side=side)
    return update


def written_out(patch: PavePatch, queries: Tensor, side: Tensor) -> Tensor:
    """Return the update `(1, F, S, L)` of a patch with `shared_value`, whose steps divide evenly among the frames.

    Args:
        patch: whose weights are used.
        queries: `(1, F, S, Q)`.
        side: `(1, T, N, C)`, T a multiple of F.
    """
    assert isinstance(patch.side_map, torch.nn.Linear)
    assert patch.query_map is not None
    num_frames = queries.shape[1]
    mapped = patch.side_map(side[0].flatten(0, 1))  # (T * N, E)
    hidden = patch.query_map(queries[0])  # (F, S, D)
    for layer in patch.layers:
        assert isinstance(layer, PaveLayer)
        attention = layer.attention
        query = attention.query(hidden).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        # Keys and values come out of one map, which is applied twice.
        key, value = (
            attention.key(mapped)
            .unflatten(0, (num_frames, -1))
            .unflatten(-1, (attention.num_heads, -1))
            .transpose(1, 2)
            for _ in range(2)
        )
        attended = F.scaled_dot_product_attention(query, key, value)  # (F, H, S, D / H)
        hidden = hidden + attended.transpose(1, 2).flatten(2)
        hidden = hidden + layer.down(F.gelu(layer.up(layer.norm(hidden))))
    first, activation, second = patch.adapter
    update: Tensor = patch.norm(second(activation(first(hidden))))
    return update[None]


WAYS: dict[str, Way] = {"here": here, "written out": written_out}


def published_patch(side_dim: int) -> PavePatch:
    """Return a patch of a released configuration with random weights, the last norm's too."""
    torch.manual_seed(0)
    patch = PavePatch(
        side_dim, query_dim=QUERY_DIM, output_dim=OUTPUT_DIM, embed_dim=512, shared_value=True, alignment="count"
    )
    torch.nn.init.normal_(patch.norm.weight)
    return patch


def measure(size: str, way: str, *, backward: bool, repeats: int) -> dict[str, object]:
    """Return CPU seconds of a step and the peak of this process, whole and above model and inputs."""
    torch.set_num_threads(1)
    num_steps, num_tokens, side_dim = SIZES[size]
    patch = published_patch(side_dim)
    queries, side = torch.randn(1, FRAMES, QUERIES, QUERY_DIM), torch.randn(1, num_steps, num_tokens, side_dim)

    def step() -> None:
        with torch.set_grad_enabled(backward):
            update = WAYS[way](patch, queries, side)
            if backward:
                update.square().mean().backward()
        patch.zero_grad()

    before, seconds = peak_megabytes(), []
    for _ in range(repeats):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return {
        "side tokens": size,
        "pass": "forward, backward" if backward else "forward",
        "way": way,
        "cpu_s_min": round(min(seconds), 2),
        "cpu_s_median": round(statistics.median(seconds), 2),
        "peak_mb": round(peak_megabytes()),
        "added_mb": round(peak_megabytes() - before),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["points, 18,432"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = [
            pool.apply(measure, (size, way), {"backward": backward, "repeats": options.repeats})
            for size in options.sizes
            for backward in (True, False)
            for way in WAYS
        ]
    report("pave_patch", rows, unit="CPU seconds of one thread; 10^6 bytes")


if __name__ == "__main__":
    main()
