"""The table of docs/backbones.md is what the tests of this folder run over; `python -m tests.model.vlm.test_page`."""

from __future__ import annotations

from pathlib import Path

from crema_core.model.vlm.traits import Traits, tried
from tests.model.vlm.test_against_transformers import BEAMLESS, REFUSED
from tests.support.vlm import VLMS

PAGE = Path(__file__).parents[3] / "docs" / "backbones.md"
BEGIN, END = "<!-- kinds -->\n", "<!-- end of kinds -->\n"


def table() -> str:
    """Return a row for each kind that is compared with transformers' own results."""
    rows = ["| model type | a clip is | answers by beams | PAVE | what is set for it |", "|---|---|---|---|---|"]
    for kind, traits in tried().items():
        differs = [name for name in Traits.model_fields if getattr(traits, name) != getattr(Traits(), name)]
        cells = [
            f"`{kind}`",
            "a clip" if VLMS[kind].takes_video else "pictures with their times",
            "not compared, its own raise" if kind in BEAMLESS else "yes",
            "queries before the projector" if traits.projector else "yes",
            ", ".join(f"`{name}`" for name in differs),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    rows += [f"| `{kind}` | refused | | | pictures enter by cross-attention |" for kind in REFUSED]
    return "\n".join(rows) + "\n"


def page() -> str:
    """Return the page with its table written anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


def test_the_page_has_the_kinds_that_are_tested() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
