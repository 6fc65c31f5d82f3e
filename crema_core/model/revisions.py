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
from typing import Any

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from transformers.utils.hub import cached_file, extract_commit_hash

from crema_core.common.reading import read_text
from crema_core.errors import ReadError

Revisions = Mapping[str, Mapping[str, str]]
"""By hub id, and by branch or tag, the commit."""
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""Anything else can only be a folder."""
DATASETS = "datasets/"
"""Before the id of a repository of data, some of which hold weights."""
MAIN, REVISIONS = "main", "revisions"
_COMMIT = re.compile("[0-9a-f]{40}")
_MOST_NOTE = 1000
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
        place: hub id, `datasets/OWNER/NAME` for a repository of data; of a folder nothing is changed.
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
    own = place.removeprefix(DATASETS) if _is_data(place) else place
    kind = "dataset" if _is_data(place) else "model"
    options: dict[str, Any] = {"revision": revision, "repo_type": kind, "_raise_exceptions_for_missing_entries": False}
    try:
        file = cached_file(own, "config.json", **options)
    except (OSError, ValueError):  # no such id, or no way to it: told where the files are read
        return None
    if file is not None:
        return extract_commit_hash(str(file), None)
    # A repository without this file: the hub told the commit all the same, and the local copy keeps it.
    note = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=own, repo_type=kind) / "refs" / revision
    try:
        commit = read_text(note, most=_MOST_NOTE).strip()
    except ReadError:
        return None
    return commit if _COMMIT.fullmatch(commit) else None


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
    named = HUB_ID.fullmatch(str(place)) is not None or _is_data(str(place))
    return named and not Path(place).exists()


def _is_data(place: str) -> bool:
    own = place.removeprefix(DATASETS)
    return own != place and "/" in own and HUB_ID.fullmatch(own) is not None
