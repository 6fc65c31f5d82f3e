"""What the strategies of the paper's Table 8 read and compute, on the real shapes without weights.

The page `docs/fidelity.md` shows the same numbers beside the paper's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import crema_core
from crema_core.api.describe import VISION, cost_of

pytestmark = pytest.mark.slow  # builds whole published shapes

PAGE = Path(__file__).parents[3] / "docs" / "fidelity.md"
PAPER = {"video alone": 1300, "self_gated": 2470, "linear": 1870, "mixture": 1020}
"""GFLOPs of Table 8, a multiply-add counted once."""

# Tokens the language model reads, its GFLOPs, and those of all behind the encoders; a multiply-add counts as two.
EXPECTED = {
    "video alone": (145, 412.6, 464.6),
    "self_gated": (285, 805.1, 963.2),
    "linear": (209, 591.1, 747.2),
    "mixture": (103, 296.4, 402.1),
    "cross_attention": (180, 510.0, 673.1),
    "concat": (433, 1228.4, 1384.4),
}


def counted(fusion: str, *, alone: bool = False) -> tuple[int, float, float]:
    model = crema_core.build(
        [{"name": "video", "num_frames": 4}, "flow", "depth"], backbone="blip2-flan-t5-xl", fusion=fusion
    )
    cost = cost_of(model, ["video"] if alone else model.names)
    behind = sum(flops for part, flops in cost.gflops.items() if part != VISION)
    return cost.num_tokens, round(cost.gflops["language model"], 1), round(behind, 1)


@pytest.mark.parametrize("name", EXPECTED)
def test_tokens_and_arithmetic_are_those_of_the_page(name: str) -> None:
    found = counted("self_gated", alone=True) if name == "video alone" else counted(name)
    assert found == EXPECTED[name]


def test_the_page_shows_them_beside_the_papers() -> None:
    assert set(rows()) <= set(PAGE.read_text(encoding="utf-8").splitlines())


def test_language_model_and_paper_agree_within_a_tenth() -> None:
    """What is behind the encoders adds a pass of the Q-Former per modality, which the paper's figures cannot show."""
    for name, gflops in PAPER.items():
        ratio = EXPECTED[name][1] / EXPECTED["video alone"][1]
        assert ratio == pytest.approx(gflops / PAPER["video alone"], rel=0.1), name


def rows() -> list[str]:
    """Return the lines of the page's table."""
    _, language, whole = EXPECTED["video alone"]
    found = []
    for name, (tokens, own, behind) in EXPECTED.items():
        shown = name if name == "video alone" else f"`{name}`"
        gflops = PAPER.get(name)
        paper = ("", "") if gflops is None else (f"{gflops / 1000:.2f}K", f"{gflops / PAPER['video alone']:.2f}")
        cells = [shown, *paper, f"{tokens}", f"{own:.1f}", f"{own / language:.2f}", f"{behind:.1f}"]
        found.append(f"| {' | '.join([*cells, f'{behind / whole:.2f}'])} |")
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
