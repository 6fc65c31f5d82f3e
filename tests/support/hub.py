"""A cache of the hub as it is after downloads, for tests without network."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "f" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub, as it is after a download of one revision: there is no latest one."""
    place = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place


def downloaded(hub: Path, name: str, folder: Path, *, revision: str) -> None:
    """Put a folder into the cache as revision `revision` of a repository: `OWNER/NAME` or `datasets/OWNER/NAME`."""
    repository = _repository(hub, name)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / COMMIT)
    # The cache keeps in mind which files the repository was found not to have.
    for name_of_file in ("qformer_tokenizer/config.json", "config.json"):
        absent = repository / ".no_exist" / COMMIT / name_of_file
        if not (repository / "snapshots" / COMMIT / name_of_file).exists():
            absent.parent.mkdir(parents=True, exist_ok=True)
            absent.touch()


def advance(hub: Path, name: str, commit: str = LATER) -> Path:
    """Let the branch `main` of a repository in the cache have another commit, of equal files; return their folder."""
    repository = _repository(hub, name)
    (repository / "snapshots" / commit).symlink_to(repository / "snapshots" / COMMIT)
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def _repository(hub: Path, name: str) -> Path:
    kind, own = ("datasets", name.removeprefix("datasets/")) if name.startswith("datasets/") else ("models", name)
    return hub / f"{kind}--{own.replace('/', '--')}"
