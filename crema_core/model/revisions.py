"""Commits of the hub: a branch or tag is resolved once, and the commit is what is read, recorded and read again.

A hub id without a revision means the newest commit of its `main`, which its owner may exchange any day. Inside
`recording()` every id is resolved at its first file, all further files come from the same commit, and the commits are
handed to whoever records them. Inside `pinned(...)` recorded commits go before what the branch has now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from transformers.utils.hub import cached_file, extract_commit_hash

Revisions = Mapping[str, Mapping[str, str]]
"""By hub id, and by branch or tag, the commit."""
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""Anything else can only be a folder."""
MAIN, REVISIONS = "main", "revisions"
_COMMIT = re.compile("[0-9a-f]{40}")
_found: ContextVar[dict[str, dict[str, str]] | None] = ContextVar("found", default=None)
_pins: ContextVar[Revisions] = ContextVar("pins", default={})  # noqa: B039 - it is never changed, only replaced


@contextmanager
def recording() -> Iterator[dict[str, dict[str, str]]]:
    """Yield a mapping that is filled with the commits of all that is read from the hub inside the block.

    Inside of another such block it is that one's mapping.
    """
    outer = _found.get()
    if outer is not None:
        yield outer
        return
    found: dict[str, dict[str, str]] = {}
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


@contextmanager
def pinned(revisions: Revisions) -> Iterator[None]:
    """Inside the block, read these commits where their branches or tags are asked for."""
    token = _pins.set(revisions)
    try:
        yield
    finally:
        _pins.reset(token)


def revision_of(place: str | Path, revision: str | None) -> str | None:
    """Return what to ask the hub for: the commit that a branch or tag stands for.

    Args:
        place: hub id; of a folder nothing is changed.
        revision: commit, branch or tag; None: the branch `main`.

    Returns:
        The commit; what was asked for where there is none to be found, which is then told by whoever reads the files.
    """
    name, asked = str(place), revision or MAIN
    if _COMMIT.fullmatch(asked) or not is_hub_id(place):
        return revision
    found = _found.get()
    known = _pins.get().get(name, {}).get(asked) or (found or {}).get(name, {}).get(asked) or newest(name, asked)
    if known is None:
        return revision
    if found is not None:
        found.setdefault(name, {})[asked] = known
    return known


def newest(place: str, revision: str) -> str | None:
    """Return the commit that a branch or tag of a hub id has now, as far as the hub or its local copy tells."""
    try:
        file = cached_file(place, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such id, or no way to it: told where the files are read
        return None
    return None if file is None else extract_commit_hash(str(file), None)


def moved(revisions: Revisions) -> list[str]:
    """Return a clause for every branch or tag that has another commit now than the recorded one."""
    lines = []
    for place, own in revisions.items():
        for branch, commit in own.items():
            now = newest(place, branch)
            if now is not None and now != commit:
                lines.append(f"'{branch}' of '{place}' has moved from {commit[:12]} to {now[:12]}")
    return lines


def is_hub_id(place: str | Path) -> bool:
    """Return whether a place is no folder and may be an id of the hub."""
    return HUB_ID.fullmatch(str(place)) is not None and not Path(place).exists()
