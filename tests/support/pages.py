"""Texts that would be markup on a page, what a page may hold, and what a browser makes of one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

RUN = "document.body.setAttribute(`owned`,1)"
"""What the texts below would do: a browser that ran one shows it in what it prints."""
FOREIGN = (
    f"<script>{RUN}</script>",
    f"</style></title></head><img src=x onerror={RUN}>",
    f"\"><svg/onload='{RUN}'>",
    f"' onmouseover='{RUN}",
    "<!-- <a href='data:text/html,<b>'>&lt;i&gt;",
    "]]></p></div></td></table><iframe>",
    f"<![CDATA[<img src=x onerror={RUN}>",
    f"javascript:{RUN}//<a href=javascript:{RUN}>",
    f"\u2028<script>{RUN}</script>\u2029",
    f"<table><tr><td background='javascript:{RUN}'><?php --!>",
    f"</textarea><math><mi><style><img src onerror={RUN}>",
)
TAGS = set("html head meta title style body h1 h2 p div b br small ol li figure img figcaption".split())
TAGS |= set("table thead tbody tr th td".split())
ATTRIBUTES = set("lang charset name content class tabindex style alt src".split())


class Structure(HTMLParser):
    """Notes every tag with its attributes, and the text between tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.others: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def require_harmless(make: Callable[[str], str], *, times: int, texts: tuple[str, ...] = FOREIGN) -> None:
    """Require that no tag and no attribute of a page comes from a text, and that the text can be read there.

    Args:
        make: from a text of others to a page or a part of one.
        times: how often the text is to be read there at least.
        texts: that are tried.
    """
    for bad in texts:
        plain, attacked = Structure(make("P" * len(bad))), Structure(make(bad))  # as long, so that the same is cut
        assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in plain.tags]
        assert [sorted(own) for _, own in attacked.tags] == [sorted(own) for _, own in plain.tags]
        assert {tag for tag, _ in attacked.tags} <= TAGS
        assert {name for _, own in attacked.tags for name in own} <= ATTRIBUTES
        assert attacked.others == plain.others
        assert attacked.text.count(bad) == plain.text.count("P" * len(bad)) >= times


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no browser that prints what it shows")


def seen_by_browser(file: Path) -> str:
    """Return the document that a browser has after it ran what a page runs."""
    assert BROWSER is not None, "the test has needs_browser"
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={file.parent / 'browser'}"]
    done = subprocess.run([*words, "--dump-dom", file.as_uri()], capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")
