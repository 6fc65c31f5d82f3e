"""Pieces of a one-file HTML page: no external file, no script, readable on a phone and when printed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from crema_core.plugins.hookspecs import ReportSection

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
Line = Mapping[str, Any]
"""One line of what `evaluate(out=...)` writes, see `crema_core.evaluation.run.Prediction`."""
NUM_CARDS = 18
"""Most questions that a page shows with their answers; with their pictures (`crema_core.report.thumbnails`) 0.7 MB."""
MANY_COLUMNS, LONG_NAME = 9, 32
"""Columns from which a table of numbers is set smaller, and letters of a name that are not kept in one line."""
PLOT_PX = 780
"""Width of a plot (`crema_core.report.plots`) that `page.css` shows 40rem wide."""
MAX_CHARS, MAX_CHOICES, MAX_CHOICE_CHARS = 400, 10, 120
"""Longest text of a card, most choices it lists, and the longest of these."""
ANSWERED = "examples.jsonl"
"""File of a run directory with the validation questions its model answered at the end, where there were any."""


@dataclass(frozen=True)
class About:
    """What a card shows of the sample that a question is about."""

    file: str = ""  # name of its file; of several the first, and how many more
    choices: tuple[str, ...] = ()  # of a multiple-choice question
    image: bytes = b""  # PNG or JPEG
    alt: str = ""  # says what the image shows, for who does not see it
    reason: str = ""  # why there is no image


def page(title: str, lead: str, sections: Sequence[ReportSection]) -> str:
    """Return a whole HTML document.

    Args:
        title: heading and window title.
        lead: a sentence under the heading.
        sections: complete bodies under their headings, in order.
    """
    body = "\n".join(f"<h2>{escape(part.title)}</h2>\n{part.html}" for part in sections)
    whole = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p>\n{body}\n</body>\n</html>\n'
    )
    # Names of files may hold bytes that are no text.
    return whole.encode("utf-8", "backslashreplace").decode("utf-8")


def table_block(rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    """Return a table that scrolls sideways where the screen is narrow.

    Args:
        rows: cells, the first row is the header.
        text: cells are sentences rather than numbers: left-aligned and wrapped.
    """
    header = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows[1:]]
    kinds = ["text"] if text else ["dense"] if len(rows[0]) > MANY_COLUMNS else []
    if not text and any(len(row[0]) > LONG_NAME for row in rows if row):
        kinds.append("long")
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    # A box that has the focus is scrolled by keys.
    inner = f"<thead><tr>{header}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'<div class="scroll" tabindex="0"><table{kind}>\n{inner}</table></div>'


def facts_block(facts: Mapping[str, object]) -> str:
    """Return names and values as a table of two columns."""
    return table_block([["name", "value"], *([name, str(value)] for name, value in facts.items())], text=True)


def figure_block(png: bytes, caption: str) -> str:
    """Return a plot with its caption, embedded in the page."""
    # A plot wider than usual keeps the size of its letters on a desk; its width is the first number of a PNG's header.
    wide = int.from_bytes(png[16:20]) / PLOT_PX
    style = f' style="max-width: {40 * wide:.1f}rem"' if wide > 1 else ""
    return (
        f'<figure><img class="plot"{style} alt="{escape(caption)}" src="{data_url(png)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def paragraphs(*texts: str) -> str:
    """Return each text as a paragraph."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def data_url(image: bytes) -> str:
    """Return a PNG or JPEG image as text that a page can contain."""
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64," + base64.b64encode(image).decode("ascii")


def read_lines(path: Path) -> list[Line]:
    """Return the lines that `evaluate(out=...)` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def examples_block(
    lines: Sequence[Line],
    *,
    note: Callable[[Line], str] = lambda line: line["type"],
    about: Callable[[Line], About] = lambda line: About(),
) -> str:
    """Return some answered questions side by side where there is room, and by which rule they were taken.

    Args:
        lines: of one evaluation.
        note: a small text under an answer.
        about: what is shown of a line's sample; called for the lines that are taken only.
    """
    chosen = chosen_lines(lines)
    cards = f'<div class="cards">{"".join(_card(line, note(line), about(line)) for line in chosen)}</div>'
    if not chosen:
        return cards
    wrong, shown_wrong = (sum(not line["correct"] for line in some) for some in (lines, chosen))
    rule = (
        f"{len(chosen)} of {len(lines):,} answered questions: {shown_wrong} of {wrong:,} wrong ones, then "
        f"{len(chosen) - shown_wrong} of {len(lines) - wrong:,} right ones. Types of question take turns."
    )
    return paragraphs(rule) + cards


def chosen_lines(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that are shown: at most `NUM_CARDS`, wrong ones first.

    A third of the places are for right ones; what one kind does not need the other gets. Within a kind types of
    question take turns. The same lines give the same choice.
    """
    wrong, right = alternating(lines, correct=False), alternating(lines, correct=True)
    num_right = min(len(right), max(NUM_CARDS // 3, NUM_CARDS - len(wrong)))
    return [*wrong[: NUM_CARDS - num_right], *right[:num_right]]


def _card(line: Line, note: str, about: About) -> str:
    verdict = (
        "right" if line["correct"] else f"{'not chosen' if line.get('tied') else 'wrong'}, expected: {line['answer']}"
    )
    parts = []
    if about.image:
        parts.append(f'<img alt="{escape(about.alt)}" src="{data_url(about.image)}">')
    elif about.reason:
        parts.append(f'<p class="none">No picture: {_cut(about.reason)}</p>')
    if about.file:
        parts.append(f'<p class="file">{_cut(about.file)}</p>')
    parts.append(f"<p>{_cut(line['question'])}</p>")
    if about.choices:
        items = [f"<li>{_cut(choice, MAX_CHOICE_CHARS)}</li>" for choice in about.choices[:MAX_CHOICES]]
        more = len(about.choices) - MAX_CHOICES
        parts.append(f"<ol>{''.join(items)}</ol>" + (f"<p>and {more:,} more choices</p>" if more > 0 else ""))
    parts.append(
        f'<p><b class="{"good" if line["correct"] else "bad"}">{_cut(line["prediction"]) or "(nothing)"}</b> '
        f"({_cut(verdict)})<br><small>{_cut(note)}</small></p>"
    )
    return f'<div class="card">{"".join(parts)}</div>'


def _cut(text: str, length: int = MAX_CHARS) -> str:
    """Return a text of others as HTML, without what is beyond a length."""
    return escape(text if len(text) <= length else text[: length - 1] + "…")


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
