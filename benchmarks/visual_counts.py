"""Trained weights and arithmetic of CREMA on current vision-language models, on their published shapes.

Four modalities (video as the model sees it, sound by BEATs, flow, depth) with the Q-Former of BLIP-2 and a LoRA of rank
64 each, on one clip of four frames. Nothing is loaded and nothing is computed, so the numbers do not depend on the
machine. `docs/backbones.md` holds the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from crema_core.api.build import build
from crema_core.api.describe import LANGUAGE, VISION, cost_of
from crema_core.tokens import OWN_IDS

BACKBONES = (
    *("qwen3-vl-4b", "qwen3-vl-8b", "qwen3.5-9b", "qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen2.5-omni-7b"),
    *("internvl3-8b", "gemma-3-4b", "gemma-3-12b", "llava-onevision-qwen2-7b", "glm-4.1v-9b", "smolvlm2-2.2b"),
)
MODALITIES = ("video", {"name": "audio", "encoder": "beats"}, "flow", "depth")
QFORMER = "blip2-flan-t5-xl"
NUM_FRAMES, SIDE = 4, 448
HEAD = (
    *("backbone", "parameters", "trained", "adapters", "fusion", "tokens of the clip", "tokens", "GFLOPs"),
    *("vision encoder", "language model"),
)


def row(name: str) -> list[str]:
    """Return what one backbone costs: parameters in millions, tokens, and 10^9 operations of an answer.

    Args:
        name: of a shape.
    """
    model = build(list(MODALITIES), backbone=name, qformer=QFORMER, precision="bf16")
    draws = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (NUM_FRAMES, 3, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    sources = {own: model.branch(own).modality.example(draws) for own in model.names} | {"video": frames}
    cost = cost_of(model, model.names, sources=sources)
    clip = model.branch("video").modality.prepare(frames).tensors[OWN_IDS]
    weights = sum(own.numel() for own in model.backbone.language_model.parameters())
    adapters = sum(own.numel() for part in model.names for own in model.adapter_parameters(part).values())
    fusion = sum(own.numel() for own in model.fusion_parameters().values())
    return [
        name,
        f"{weights / 1e6:,.0f}M",
        f"{(adapters + fusion) / 1e6:.1f}M",
        f"{adapters / 1e6:.1f}M",
        f"{fusion / 1e6:.1f}M",
        f"{len(clip):,}",
        f"{cost.num_tokens:,}",
        f"{cost.total_gflops:,.0f}",
        f"{cost.gflops[VISION]:,.0f}",
        f"{cost.gflops[LANGUAGE]:,.0f}",
    ]


def line(cells: Sequence[str]) -> str:
    """Return one line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Count and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, help="names of shapes; default: all")
    options = parser.parse_args()
    print(line(HEAD), line(["---"] * len(HEAD)), sep="\n")
    for name in options.backbones:
        print(line([f"`{name}`", *row(name)[1:]]), flush=True)


if __name__ == "__main__":
    main()
