"""Pieces of a one-file HTML page: no external file, no script, readable on a phone and when printed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crema_core.plugins.hookspecs import ReportSection

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
Line = Mapping[str, Any]
"""One line of what `evaluate(out=...)` writes, see `crema_core.evaluation.run.Prediction`."""
NUM_RIGHT, NUM_WRONG = 9, 9
ANSWERED = "examples.jsonl"
"""File of a run directory with the validation questions its model answered at the end, where there were any."""


def page(title: str, lead: str, sections: Sequence[ReportSection]) -> str:
    """Return a whole HTML document.

    Args:
        title: heading and window title.
        lead: a sentence under the heading.
        sections: complete bodies under their headings, in order.
    """
    body = "\n".join(f"<h2>{escape(part.title)}</h2>\n{part.html}" for part in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p>\n{body}\n</body>\n</html>\n'
    )


def table_block(rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    """Return a table that scrolls sideways where the screen is narrow.

    Args:
        rows: cells, the first row is the header.
        text: cells are sentences rather than numbers: left-aligned and wrapped.
    """
    header = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows[1:]]
    kind = ' class="text"' if text else ""
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table{kind}>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'


def facts_block(facts: Mapping[str, object]) -> str:
    """Return names and values as a table of two columns."""
    return table_block([["name", "value"], *([name, str(value)] for name, value in facts.items())], text=True)


def figure_block(png: bytes, caption: str) -> str:
    """Return a plot with its caption, embedded in the page."""
    return (
        f'<figure><img class="plot" alt="{escape(caption)}" src="{data_url(png)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def paragraphs(*texts: str) -> str:
    """Return each text as a paragraph."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def data_url(png: bytes) -> str:
    """Return an image as text that a page can contain."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def read_lines(path: Path) -> list[Line]:
    """Return the lines that `evaluate(out=...)` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def examples_block(
    lines: Sequence[Line],
    *,
    note: Callable[[Line], str] = lambda line: line["type"],
    picture: Callable[[Line], bytes] = lambda line: b"",
) -> str:
    """Return some answered questions side by side where there is room, right ones first.

    Args:
        lines: of one evaluation.
        note: a small text under an answer.
        picture: a PNG image beside an answer, or nothing.
    """
    chosen = [*alternating(lines, correct=True)[:NUM_RIGHT], *alternating(lines, correct=False)[:NUM_WRONG]]
    return f'<div class="cards">{"".join(_card(line, note(line), picture(line)) for line in chosen)}</div>'


def _card(line: Line, note: str, png: bytes) -> str:
    picture = f'<img alt="" src="{data_url(png)}">' if png else ""
    verdict = (
        "right" if line["correct"] else f"{'not chosen' if line.get('tied') else 'wrong'}, expected: {line['answer']}"
    )
    return (
        f'<div class="card">{picture}<div>{escape(line["question"])}<br>'
        f'<b class="{"good" if line["correct"] else "bad"}">{escape(line["prediction"]) or "(nothing)"}</b> '
        f"({escape(verdict)})<br><small>{escape(note)}</small></div></div>"
    )


def alternating(lines: Sequence[Line], *, correct: bool) -> list[Line]:
    """Return the right or the wrong lines ordered so that question types alternate and samples differ."""
    by_type: dict[str, list[Line]] = {}
    for line in lines:
        if line["correct"] is correct:
            by_type.setdefault(line["type"], []).append(line)
    # Questions about one sample stand together in most data; the shift takes another sample for each type.
    shifted = [own[place % len(own) :] + own[: place % len(own)] for place, own in enumerate(by_type.values())]
    longest = max(map(len, shifted), default=0)
    return [own[turn] for turn in range(longest) for own in shifted if turn < len(own)]
