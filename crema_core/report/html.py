"""Pieces of a one-file HTML page: no external file, no script, readable on a phone and when printed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from crema_core.plugins.hookspecs import ReportSection

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 52rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #d8dee4; padding-bottom: .2rem; }
p.lead { color: #424a53; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #eaeef2; }
th { font-weight: 600; vertical-align: bottom; background: #f6f8fa; }
th:first-child, td:first-child, table.text td { text-align: left; }
table.text td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
img.plot { width: 100%; max-width: 40rem; height: auto; display: block; }
figure { margin: 1rem 0; }
figcaption { font-size: .86rem; color: #57606a; }
.good { color: #116329; } .bad { color: #a40e26; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .8rem; }
.card { border: 1px solid #d8dee4; border-radius: .5rem; padding: .6rem; font-size: .9rem; display: flex; gap: .7rem; }
.card img { width: 5rem; height: 5rem; flex: none; image-rendering: pixelated; border-radius: .3rem; }
@media (max-width: 30rem) { body { font-size: 15px; padding: .7rem; } }
"""


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


def example_card(*, question: str, expected: str, given: str, correct: bool, note: str = "", png: bytes = b"") -> str:
    """Return one answered question, with a picture where there is one."""
    picture = f'<img alt="" src="{data_url(png)}">' if png else ""
    verdict = "right" if correct else f"wrong, expected: {expected}"
    return (
        f'<div class="card">{picture}<div>{escape(question)}<br>'
        f'<b class="{"good" if correct else "bad"}">{escape(given) or "(nothing)"}</b> '
        f"({escape(verdict)})<br><small>{escape(note)}</small></div></div>"
    )


def cards_block(cards: Sequence[str]) -> str:
    """Return cards side by side where there is room."""
    return f'<div class="cards">{"".join(cards)}</div>'


def data_url(png: bytes) -> str:
    """Return an image as text that a page can contain."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
