"""Write the tables of options into the READMEs of plugins and the page of video: `python docs/options.py`.

A table lies between two comments, the first of which names the modality. `make docs` runs this, and a test compares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import crema_core
from crema_core.plugins.spec import option_rows

ROOT = Path(__file__).parents[1]
PAGES = (*sorted(ROOT.glob("plugins/*/README.md")), ROOT / "docs" / "video.md")
BETWEEN = re.compile(r"(<!-- options of (\w+), written by docs/options\.py -->\n).*?(<!-- end of options -->)", re.S)
WORDS = {"string": "str", "number": "float", "integer": "int", "boolean": "bool", "null": "None", "array": "list"}
"""JSON's word for a type -> Python's."""


def table(name: str) -> str:
    """Return the table of one modality's options."""
    rows = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for row in option_rows(crema_core.describe(name)["options"]):
        default = row.default if row.default == "required" else f"`{json.loads(row.default)!r}`"
        kind = " or ".join(f"`{_in_python(choice)}`" for choice in row.type.split(" | "))
        rows.append(f"| `{row.name}` | {kind} | {default} | {row.meaning.replace('|', '&#124;')} |")
    return "\n".join(rows)


def _in_python(kind: str) -> str:
    word, space, limits = kind.partition(" ")
    return f"{WORDS.get(word, word)}{space}{limits}".replace('"', "'")


def written(text: str) -> str:
    """Return a page with its tables as the code has them."""
    return BETWEEN.sub(lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}", text)


def modalities(text: str) -> list[str]:
    """Return the modalities whose options a page lists."""
    return [found[2] for found in BETWEEN.finditer(text)]


def main() -> None:
    """Write the tables."""
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
