"""The table of language models in docs/backbones.md is what the tests run over.

`python -m tests.model.test_language_models_page` writes it.
"""

from __future__ import annotations

from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from tests.model.test_language_models import READ_IDS, REFUSED
from tests.support.languages import LANGUAGE_KINDS

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"
BEGIN, END = "<!-- language models -->\n", "<!-- end of language models -->\n"


def table() -> str:
    """Return a row for each kind that is compared with transformers' own results, then those that are refused."""
    rows = ["| model type | it is | it is given |", "|---|---|---|"]
    for kind in LANGUAGE_KINDS:
        if kind not in REFUSED:
            own = "encoder and decoder" if kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES else "decoder"
            given = "ids, vectors at places of our tokens" if kind in READ_IDS else "vectors"
            rows.append(f"| `{kind}` | {own} | {given} |")
    rows += [f"| `{kind}` | refused | {reason} |" for kind, reason in REFUSED.items()]
    return "\n".join(rows) + "\n"


def page() -> str:
    """Return the page with its table written anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


def test_the_page_has_the_kinds_that_are_tested() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
