"""Which attention is faster, forward and backward: torch's fused kernel or two matrix products and a softmax; and the
norm that reads its input once against T5's own.

Each row is a shape of the models here. `crema_core.model.bf16_kernels` chooses by dtype and by whether the CPU has
matrix units for bf16; this table is what it goes by, so run it on a CPU of another kind:

    python -m benchmarks.kernels --repeats 7
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5LayerNorm

from benchmarks.measure import alternate, median, ratio, report
from crema_core.model.bf16_kernels import OnePassNorm
from crema_core.model.precision import has_bf16_units

SHAPES = {
    "Q-Former, queries": (32, 12, 32, 32, 64, False),
    "Q-Former, 257 patches": (32, 12, 32, 257, 64, False),
    "T5 encoder, 160 tokens": (8, 32, 160, 160, 64, True),
    "T5 decoder over 160": (8, 32, 4, 160, 64, True),
}
"""Samples, heads, positions that attend, attended to, width of a head, whether there is a bias."""


def fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attend by torch's kernel."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attend by matrix products."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ value


def compare_attention(dtype: torch.dtype, repeats: int) -> list[dict[str, object]]:
    """Return a row for each shape."""
    rows: list[dict[str, object]] = []
    for name, (samples, heads, attending, attended, width, has_bias) in SHAPES.items():
        query = torch.randn(samples, heads, attending, width, dtype=dtype).requires_grad_()
        key, value = (torch.randn(samples, heads, attended, width, dtype=dtype).requires_grad_() for _ in range(2))
        bias = torch.randn(samples, heads, attending, attended, dtype=dtype) if has_bias else None

        def step(attend: Callable[..., Tensor], given: tuple[Tensor | None, ...] = (query, key, value, bias)) -> None:
            output = attend(*given)
            output.backward(torch.ones_like(output))

        rows.append(_row(name, dtype, {"plain": lambda: step(products), "fused": lambda: step(fused)}, repeats))
    return rows


def compare_norms(dtype: torch.dtype, repeats: int) -> list[dict[str, object]]:
    """Return a row for T5's norm at two widths."""
    rows: list[dict[str, object]] = []
    for samples, positions, width in ((8, 160, 2048), (8, 317, 1024)):
        plain = T5LayerNorm(width).to(dtype).requires_grad_(False)
        norms: dict[str, nn.Module] = {"plain": plain, "fused": OnePassNorm(plain)}
        hidden = torch.randn(samples, positions, width, dtype=dtype).requires_grad_()

        def step(norm: nn.Module, given: Tensor = hidden) -> None:
            output = norm(given)
            output.backward(torch.ones_like(output))

        tasks = {name: lambda norm=norm: step(norm) for name, norm in norms.items()}  # type: ignore[misc]
        rows.append(_row(f"norm, width {width}", dtype, tasks, repeats))
    return rows


def _row(name: str, dtype: torch.dtype, tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, object]:
    seconds = alternate(tasks, repeats=repeats)
    return {
        "what": name,
        "dtype": str(dtype).removeprefix("torch."),
        "plain_ms": round(1e3 * median(seconds["plain"])),
        "fused_ms": round(1e3 * median(seconds["fused"])),
        "plain / fused": round(ratio(seconds, "plain", "fused"), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        rows += compare_attention(dtype, options.repeats)
        rows += compare_norms(dtype, options.repeats)
    report("kernels", rows, unit="CPU milliseconds of one thread", bf16_units=has_bf16_units())


if __name__ == "__main__":
    main()
