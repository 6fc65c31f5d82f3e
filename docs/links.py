"""Make README files readable away from the repository: `python docs/links.py FOLDER`.

A package index shows a README without the files around it, so links and pictures need whole addresses. The repository's
address is one setting, the environment variable REPOSITORY_URL; the workflows set it, and nothing in the repository
repeats it. FOLDER is a copy of the repository made for building (`make wheels`), never the checkout itself: every
README.md that a pyproject.toml stands beside gets whole addresses, and that pyproject.toml gets `[project.urls]`.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SETTING = "REPOSITORY_URL"
FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
WHOLE = ("https://", "http://", "mailto:", "#")


def with_whole_addresses(text: str, *, folder: Path, root: Path, repository_url: str) -> str:
    """Return a page whose links and pictures lead into the repository.

    Args:
        text: Markdown; fenced code is left alone.
        folder: of the page.
        root: of the repository; links are looked up in it.
        repository_url: for example "https://example.org/owner/name", in GitHub's layout of addresses.

    Raises:
        ValueError: for a link to a file that does not exist or lies outside the repository.

    Example:
        >>> page = "See [the licence](LICENSE)."
        >>> place = Path(__file__).parents[1]
        >>> with_whole_addresses(page, folder=place, root=place, repository_url="https://example.org/a/b")
        'See [the licence](https://example.org/a/b/blob/HEAD/LICENSE).'
    """

    def whole(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        words = LINK.sub(whole, words)  # a picture that is itself a link
        return f"{picture}[{words}]({_address(target, bool(picture), folder, root, repository_url)})"

    pieces = FENCED.split(text)
    return "".join(piece if FENCED.fullmatch(piece) else LINK.sub(whole, piece) for piece in pieces)


def _address(target: str, is_picture: bool, folder: Path, root: Path, repository_url: str) -> str:
    if target.startswith(WHOLE):
        return target
    path, mark, anchor = target.partition("#")
    inside = posixpath.normpath(posixpath.join(folder.relative_to(root).as_posix(), path))
    place = root / inside
    if inside.startswith("..") or not place.exists():
        raise ValueError(
            f"{folder.relative_to(root).as_posix()}/README.md links to '{target}', which is no file of the repository. "
            "Accepted: paths relative to the page. Correct the link."
        )
    kind = "raw" if is_picture else "tree" if place.is_dir() else "blob"
    return f"{repository_url.rstrip('/')}/{kind}/HEAD/{inside}{mark}{anchor}"


def project_urls(repository_url: str) -> str:
    """Return the table `[project.urls]` of a package of the repository."""
    url = repository_url.rstrip("/")
    return f'\n[project.urls]\nSource = "{url}"\nChangelog = "{url}/blob/HEAD/CHANGELOG.md"\nIssues = "{url}/issues"\n'


def packages(root: Path) -> Iterator[Path]:
    """Yield the folders that wheels are built from: core's and those of the packages."""
    yield root
    yield from sorted(path.parent for path in root.glob("plugins/*/pyproject.toml"))


def main(place: str) -> None:
    """Rewrite the READMEs and settings of a copy of the repository."""
    root, url = Path(place).resolve(), os.environ.get(SETTING, "")
    if not url:
        print(f"{SETTING} is not set: links stay relative, and packages are built without [project.urls].")
        return
    if not url.startswith("https://"):
        raise ValueError(f"{SETTING}={url!r} is no address. Accepted: https://HOST/OWNER/NAME. Correct the variable.")
    if (root / ".git").exists():
        raise ValueError(f"'{root}' is a checkout. Pages are rewritten in copies alone. Run: make wheels")
    for folder in packages(root):
        page, project = folder / "README.md", folder / "pyproject.toml"
        text = page.read_text(encoding="utf-8")
        page.write_text(with_whole_addresses(text, folder=folder, root=root, repository_url=url), encoding="utf-8")
        settings = project.read_text(encoding="utf-8")
        if "[project.urls]" not in settings:
            project.write_text(settings + project_urls(url), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
