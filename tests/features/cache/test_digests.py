"""A file is read once, and again whenever it may have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crema_core.errors import MediaError
from crema_core.features.cache import keys
from crema_core.features.cache.keys import FileDigests, read_notes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read."""
    found: list[str] = []
    digest = keys.hashlib.file_digest

    def counted(stream, name):  # type: ignore[no-untyped-def]
        found.append(Path(stream.name).name)
        return digest(stream, name)

    monkeypatch.setattr(keys.hashlib, "file_digest", counted)
    return found


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files written a moment ago count as settled."""
    monkeypatch.setattr(keys, "SETTLED_NS", -1)


def test_equal_content_has_one_digest_and_another_ending_another(tmp_path: Path) -> None:
    for name, text in (("a.npy", "x"), ("b.npy", "x"), ("c.bin", "x"), ("d.npy", "y")):
        (tmp_path / name).write_text(text)
    files = FileDigests(tmp_path / "notes")
    a, b, c, d = (files.of(str(tmp_path / name)) for name in ("a.npy", "b.npy", "c.bin", "d.npy"))
    assert a == b
    assert len({a, c, d}) == 3


def test_order_number_and_kind_of_sources_count(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    Path(a).write_text("x")
    Path(b).write_text("y")
    files = FileDigests(tmp_path / "notes")
    assert len({files.of(source) for source in (a, [a], [a, b], [b, a])}) == 4


def test_a_folder_is_its_files_with_their_names(tmp_path: Path) -> None:
    for name in ("one", "same", "renamed", "changed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("g.png" if name == "renamed" else "f.png")).write_text("y" if name == "changed" else "x")
    files = FileDigests(tmp_path / "notes")
    one, same, renamed, changed = (files.of(str(tmp_path / name)) for name in ("one", "same", "renamed", "changed"))
    assert one == same
    assert len({one, renamed, changed}) == 3


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_also_by_later_processes_until_it_changes(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "a.npy"
    path.write_text("x")
    first = FileDigests(tmp_path / "notes").of(str(path))
    assert FileDigests(tmp_path / "notes").of(str(path)) == first
    assert reads == ["a.npy"]
    before = path.stat()
    path.write_text("y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # equal size and modification time
    assert FileDigests(tmp_path / "notes").of(str(path)) != first
    assert reads == ["a.npy", "a.npy"]


def test_a_file_just_written_is_not_noted_because_it_may_change_within_the_clocks_resolution(
    tmp_path: Path, reads: list[str]
) -> None:
    path = tmp_path / "a.npy"
    path.write_text("x")
    for _ in range(2):
        FileDigests(tmp_path / "notes").of(str(path))
    assert reads == ["a.npy", "a.npy"]


@pytest.mark.usefixtures("settled")
def test_lines_cut_off_or_damaged_are_skipped(tmp_path: Path) -> None:
    files = FileDigests(tmp_path / "notes")
    paths = [tmp_path / f"{number}" for number in range(3)]
    for path in paths:
        path.write_text(path.name)
        files.of(str(path))
    (journal,) = (tmp_path / "notes").iterdir()
    first, second, third = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + second.replace(b'"', b"'", 1) + b"\n\xff junk\n" + third[:20])
    assert list(read_notes(journal)) == [str(paths[0])]
    assert FileDigests(tmp_path / "notes").of(str(paths[2])) == files.of(str(paths[2]))


@pytest.mark.usefixtures("settled")
def test_threads_read_ahead(tmp_path: Path, reads: list[str]) -> None:
    sources = []
    for number in range(20):
        (tmp_path / f"{number}").write_text(f"{number}")
        sources.append(str(tmp_path / f"{number}"))
    files = FileDigests(tmp_path / "notes")
    files.prepare(sources, num_threads=4)
    assert sorted(reads) == sorted(Path(source).name for source in sources)
    assert len({files.of(source) for source in sources}) == 20
    assert len(reads) == 20
    (journal,) = (tmp_path / "notes").iterdir()
    assert len(read_notes(journal)) == 20


def test_an_absent_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        FileDigests(tmp_path / "notes").of(str(tmp_path / "none.npy"))
    assert str(caught.value) == (
        f"'{tmp_path / 'none.npy'}' cannot be read: No such file or directory. Its content is needed to find its kept "
        'features. Check the path and the permissions, or pass cache="none".'
    )


def test_parts_of_one_file_have_digests_of_their_own_and_the_file_is_read_once(
    tmp_path: Path, reads: list[str], settled: None
) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_text("x")
    files = FileDigests(tmp_path / "notes")
    found = {files.of(source) for source in (str(clip), f"{clip}#t=0,1", f"{clip}#t=1,2", f"{clip}#t=1")}
    assert len(found) == 4
    assert reads == ["a.mp4"]
