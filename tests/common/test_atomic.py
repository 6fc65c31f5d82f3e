"""Files and folders are written whole or not at all, and nothing of the user's is deleted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from crema_core.common import atomic
from crema_core.common.atomic import (
    MARKER,
    fresh_folder,
    new_file,
    new_folder,
    open_up,
    refuse_foreign,
    require_complete,
    write_bytes,
    write_text,
)
from crema_core.common.tensors import write_tensors
from crema_core.errors import CheckpointError, WriteError

WRITERS = [new_folder, fresh_folder]
Writer = Callable[[Path], AbstractContextManager[Path]]


def names(folder: Path) -> list[str]:
    """Everything below a folder, so that leftovers are seen."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An earlier save."""
    with new_folder(tmp_path / "saved") as folder:
        (folder / "weights").write_text("old")
    return tmp_path / "saved"


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The process's umask for one test."""
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param, "it was left changed"


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """What was flushed to disk and what was renamed, in order, by name."""
    found: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    real_open, real_sync, rename, replace = os.open, os.fsync, Path.rename, Path.replace

    def watched_open(path: str | Path, flags: int, *rest: int, **more: int) -> int:
        handle = real_open(path, flags, *rest, **more)
        opened[handle] = os.fspath(path)
        return handle

    def watched_sync(handle: int) -> None:
        found.append(("flushed", Path(opened[handle]).name))
        real_sync(handle)

    def watched_rename(self: Path, target: Path) -> Path:
        found.append(("renamed to", target.name))
        return rename(self, target)

    def watched_replace(self: Path, target: Path) -> Path:
        found.append(("renamed to", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "open", watched_open)
    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    monkeypatch.setattr(Path, "replace", watched_replace)
    yield found
    for handle in opened:
        with pytest.raises(OSError):
            os.fstat(handle)  # it was closed


def _begin_and_fail(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError


def refuse_renames_to(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Let the first rename to `place` fail, as a full or foreign disk would."""
    rename, refused = Path.rename, [place]

    def failing(self: Path, target: Path) -> Path:
        if target in refused:
            refused.remove(target)
            assert [own.name for own in target.parent.iterdir() if not own.name.startswith(".")] == []
            raise OSError(errno.ENOSPC, "no room")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)


def test_a_text_is_written_as_utf_8_into_folders_made_for_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "note.txt", "grün\n")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == b"gr\xc3\xbcn\n"
    write_bytes(tmp_path / "a" / "b" / "note.txt", b"\x00")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == b"\x00"
    assert names(tmp_path) == ["a", "a/b", "a/b/note.txt"]


def test_a_file_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    place = tmp_path / "note.txt"
    place.write_text("old")
    with pytest.raises(RuntimeError), new_file(place) as temporary:
        _begin_and_fail(temporary)
    assert temporary.parent == tmp_path, "a rename works only within one disk"
    assert temporary.name.startswith(".note.txt."), "a listing of the folder must not show it"
    assert place.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_a_file_is_flushed_before_it_takes_its_place_and_the_rename_after_it(
    tmp_path: Path, events: list[tuple[str, str]]
) -> None:
    with new_file(tmp_path / "note.txt") as temporary:
        temporary.write_text("new")
        own = temporary.name
    assert events == [("flushed", own), ("renamed to", "note.txt"), ("flushed", tmp_path.name)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_new_file_or_folder_has_the_permissions_of_ordinary_ones(tmp_path: Path, mask: int, writer: Writer) -> None:
    write_text(tmp_path / "note.txt", "")
    assert permissions(tmp_path / "note.txt") == 0o666 & ~mask
    with writer(tmp_path / "folder"):
        pass
    assert permissions(tmp_path / "folder") == 0o777 & ~mask


def test_opening_up_widens_what_was_private(tmp_path: Path, mask: int) -> None:
    file = tmp_path / "file"
    file.touch(0o600)
    open_up(file)
    assert permissions(file) == 0o666 & ~mask


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_appears_when_it_is_whole(tmp_path: Path, writer: Writer) -> None:
    place = tmp_path / "made" / "on" / "the way"
    with writer(place) as temporary:
        assert temporary.parent == place.parent
        assert temporary.name.startswith(".the way.tmp-")
        assert names(temporary) == []
        (temporary / "inside").mkdir()
        (temporary / "inside" / "weights").write_text("new")
        assert not place.exists()
    marked = [MARKER] if writer is new_folder else []
    assert names(place.parent) == ["the way", *(f"the way/{own}" for own in [*marked, "inside", "inside/weights"])]
    assert (place / "inside" / "weights").read_text() == "new"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, writer: Writer) -> None:
    with pytest.raises(RuntimeError), writer(tmp_path / "new") as temporary:
        _begin_and_fail(temporary / "weights")
    assert names(tmp_path) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_whose_rename_fails_leaves_nothing(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_renames_to(monkeypatch, tmp_path / "new")
    with pytest.raises(WriteError, match="the disk is full"), writer(tmp_path / "new") as temporary:
        (temporary / "weights").write_text("new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_relative_place_is_meant_from_where_writing_began(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with writer(Path("new")):
        os.chdir("elsewhere")
    assert (tmp_path / "new").is_dir()
    assert names(tmp_path / "elsewhere") == []


def test_every_file_is_flushed_the_marker_with_them_before_the_folder_takes_its_place(
    tmp_path: Path, events: list[tuple[str, str]]
) -> None:
    with new_folder(tmp_path / "new") as temporary:
        (temporary / "inside").mkdir()
        for path in ("a", "inside/b"):
            (temporary / path).write_text("new")
    assert sorted(events[:-2]) == [("flushed", "a"), ("flushed", "b"), ("flushed", MARKER)]
    assert events[-2:] == [("renamed to", "new"), ("flushed", tmp_path.name)]


def test_a_folder_without_marker_is_flushed_too(tmp_path: Path, events: list[tuple[str, str]]) -> None:
    with fresh_folder(tmp_path / "new") as temporary:
        (temporary / "a").write_text("new")
    assert events == [("flushed", "a"), ("renamed to", "new")]


def test_the_marker_is_not_there_while_a_folder_is_written(tmp_path: Path) -> None:
    with new_folder(tmp_path / "new") as temporary:
        (temporary / "weights").write_text("new")
        with pytest.raises(CheckpointError):
            require_complete(temporary, what="saved model")
    require_complete(tmp_path / "new", what="saved model")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_earlier_save_is_replaced_as_a_whole(
    saved: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "_renameat2", lambda: None)
    with new_folder(saved) as temporary:
        (temporary / "other").write_text("new")
        assert (saved / "weights").read_text() == "old", "the old one stands until the new one is whole"
    assert names(saved.parent) == ["saved", f"saved/{MARKER}", "saved/other"]


def test_an_earlier_save_comes_back_when_the_rename_fails(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_renames_to(monkeypatch, saved)
    monkeypatch.setattr(atomic, "_renameat2", lambda: None)
    with pytest.raises(WriteError, match="the disk is full"), new_folder(saved) as temporary:
        (temporary / "weights").write_text("new")
    assert names(saved.parent) == ["saved", f"saved/{MARKER}", "saved/weights"]
    assert (saved / "weights").read_text() == "old"


def test_an_earlier_save_stays_when_the_block_fails(saved: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(saved):
        raise RuntimeError
    assert names(saved.parent) == ["saved", f"saved/{MARKER}", "saved/weights"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as temporary:
        (temporary / "weights").write_text("new")
    assert names(tmp_path) == ["empty", f"empty/{MARKER}", "empty/weights"]


@pytest.mark.parametrize("made", ["a file", "a folder with a file", "a folder with a folder", "a folder as marker"])
def test_what_is_the_users_is_refused_before_anything_is_written(tmp_path: Path, made: str) -> None:
    place = tmp_path / "mine"
    if made == "a file":
        place.write_text("mine")
    else:
        place.mkdir()
        inside = place / (MARKER if "marker" in made else "thing")
        inside.write_text("mine") if made == "a folder with a file" else inside.mkdir()
    before = names(tmp_path)
    for check in (refuse_foreign, lambda one: new_folder(one).__enter__()):
        with pytest.raises(CheckpointError) as caught:
            check(place)
        assert str(caught.value) == (
            "'mine' exists and was not written by this package. Accepted: a new or empty folder, or an earlier save. "
            "Name another folder. Nothing was changed."
        )
    assert names(tmp_path) == before


def test_what_is_free_empty_or_saved_is_not_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (saved, tmp_path / "empty", tmp_path / "new"):
        refuse_foreign(place)
        assert place.exists() == (place.name != "new")


def test_a_folder_for_the_user_replaces_nothing(tmp_path: Path, saved: Path) -> None:
    for place in (saved, tmp_path / "mine"):
        place.mkdir(exist_ok=True)
        (place / "thing").write_text("mine")
        with pytest.raises(WriteError, match="somebody else has filled it"), fresh_folder(place) as temporary:
            (temporary / "thing").write_text("new")
        assert (place / "thing").read_text() == "mine"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["mine", "saved"]


def test_what_is_not_completely_written_is_refused(tmp_path: Path, saved: Path) -> None:
    require_complete(saved, what="saved model")
    (saved / MARKER).unlink()
    with pytest.raises(CheckpointError) as caught:
        require_complete(saved, what="saved model")
    assert str(caught.value) == (
        f"'{saved}' is not a completely written saved model (its 'complete' file is missing). Writing was "
        "interrupted, or the folder is something else. Use an earlier save. Nothing was changed."
    )
    for place in (tmp_path / "none", saved / "weights"):
        with pytest.raises(CheckpointError) as caught:
            require_complete(place, what="saved model")
        assert str(caught.value) == (
            f"There is no folder '{place}'. A saved model is a folder. Check the path. Nothing was changed."
        )


def test_a_save_is_there_at_every_moment_where_names_can_be_exchanged(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if atomic._renameat2() is None:
        pytest.skip("this system cannot exchange names")
    monkeypatch.setattr(Path, "rename", lambda self, target: pytest.fail("the place was free for an instant"))
    with new_folder(saved) as temporary:
        (temporary / "weights").write_text("new")
    assert (saved / "weights").read_text() == "new"


def gone() -> int:
    """Number of a process that does not exist."""
    return next(number for number in range(400_000, 500_000) if not Path(f"/proc/{number}").exists())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("way", ["read", "save"])
def test_a_save_killed_between_its_two_renames_comes_back(saved: Path, way: str) -> None:
    old = saved.parent / f".saved.old-{atomic._host()}-{gone()}-x"
    old.mkdir()
    saved.rename(old / "folder")
    if way == "read":
        require_complete(saved, what="saved model")
        assert (saved / "weights").read_text() == "old"
    else:
        with pytest.raises(RuntimeError), new_folder(saved):
            raise RuntimeError
    assert names(saved.parent) == ["saved", f"saved/{MARKER}", "saved/weights"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
def test_what_killed_processes_left_goes_with_the_next_write_and_nothing_else(tmp_path: Path) -> None:
    left, foreign = f"{atomic._host()}-{gone()}", f"00000000-{gone()}"
    kept = [f".a.tmp-{foreign}-x", f".a.tmp-{atomic._host()}-{os.getppid()}-x", ".a.tmp-mine", f"a.tmp-{left}-x"]
    for name in (f".a.tmp-{left}-x", *kept):
        (tmp_path / name).write_text("")
    (tmp_path / f".b.tmp-{left}-y").mkdir()
    (tmp_path / f".b.tmp-{left}-y" / "weights").write_text("half")
    write_text(tmp_path / "c", "new")
    assert names(tmp_path) == sorted([*kept, "c"])


@pytest.mark.parametrize("what", ["scandir", "unlink"])
def test_a_leftover_that_may_not_be_removed_stops_no_write(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f".a.tmp-{atomic._host()}-{gone()}-x"
    left.write_text("")
    unlink = Path.unlink

    def refuse(path: Path, **more: bool) -> None:
        if what == "scandir" or path == left:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, **more)

    monkeypatch.setattr(os, "scandir", refuse) if what == "scandir" else monkeypatch.setattr(Path, "unlink", refuse)
    write_text(tmp_path / "c", "new")
    assert (tmp_path / "c").read_text() == "new"


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, target in (("latest", tmp_path / "elsewhere" / "file"), ("dangling", tmp_path / "elsewhere" / "none")):
        target.write_text("old") if name == "latest" else None
        (tmp_path / name).symlink_to(target)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert target.read_text() == "new"
    (tmp_path / "model").symlink_to(saved)
    with new_folder(tmp_path / "model") as temporary:
        (temporary / "weights").write_text("new")
    assert (tmp_path / "model").is_symlink()
    assert (saved / "weights").read_text() == "new"


def test_a_file_keeps_the_permissions_that_somebody_gave_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("old")
    (tmp_path / "secret").chmod(0o640)
    write_text(tmp_path / "secret", "new")
    assert permissions(tmp_path / "secret") == 0o640


@pytest.mark.parametrize("writer", WRITERS)
def test_weights_can_be_read_by_whom_the_umask_allows(tmp_path: Path, mask: int, writer: Writer) -> None:
    with writer(tmp_path / "new") as temporary:
        (temporary / "inside").mkdir()
        write_tensors(temporary / "inside" / "weights.safetensors", {"a": torch.zeros(2)})
    assert permissions(tmp_path / "new" / "inside" / "weights.safetensors") == 0o666 & ~mask


def test_a_device_is_written_to_and_stays_a_device() -> None:
    before = Path(os.devnull).stat()
    write_text(Path(os.devnull), "new")
    assert Path(os.devnull).stat().st_rdev == before.st_rdev
    assert Path(os.devnull).is_char_device()


def test_a_pipe_gets_what_is_written_or_says_that_nobody_reads(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(WriteError, match=r"no program reads from this pipe\. Start the reader first"):
        write_text(pipe, "new")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "new")
    assert os.read(reader, 100) == b"new"
    os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]
