"""What cannot be written is said in three parts, whatever the system raises, and nothing is left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from crema_core.common.atomic import fresh_folder, new_folder, write_text
from crema_core.common.tensors import write_tensors
from crema_core.common.writing import writing
from crema_core.errors import WriteError

resource = pytest.importorskip("resource")
KEPT = "What was there before is as it was."


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refusal(path: Path, content: str = "new") -> str:
    with pytest.raises(WriteError) as caught:
        write_text(path, content)
    return str(caught.value)


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal(tmp_path / "file" / "x") == (
        f"'{tmp_path / 'file' / 'x'}' cannot be written: a file or a broken link is where a folder should be. "
        f"Needed is a path whose folders are folders. Name another place. {KEPT}"
    )
    assert "a folder is there. Needed is the name of a file." in refusal(tmp_path / "folder")
    assert "lead in a circle" in refusal(tmp_path / "loop")
    assert "its name is too long for the file system. Accepted are names of up to about 200" in refusal(
        tmp_path / ("n" * 300)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "loop"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("name", ["n" * 255, "\u00e9" * 127, "a.b-c.tmp-d"])
def test_every_name_the_file_system_takes_is_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o555)
    assert "this user may not write there" in refusal(tmp_path / "theirs" / "new")
    for writer in (new_folder, fresh_folder):
        with pytest.raises(WriteError, match="this user may not write there"), writer(tmp_path / "theirs" / "new"):
            pytest.fail("there is nowhere to write")


def test_errors_of_making_a_temporary_neighbour_are_about_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str, dir: Path) -> None:  # noqa: A002
        raise PermissionError(errno.EACCES, "Permission denied", str(dir / f"{prefix}x"))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert "this user may not write there" in refusal(tmp_path / "new")
    with pytest.raises(WriteError, match="this user may not write there"), new_folder(tmp_path / "new"):
        pytest.fail("there is nowhere to write")


def test_a_deleted_working_directory_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for writer in (new_folder, fresh_folder):
        with pytest.raises(WriteError, match="perhaps the working directory was deleted"), writer(Path("new")):
            pytest.fail("there is nowhere to write")
    assert "perhaps the working directory was deleted" in refusal(Path("new"))


def test_a_full_disk_is_a_message() -> None:
    assert refusal(Path("/dev/full")).startswith("'/dev/full' cannot be written: the disk is full. Needed is a place")


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("writer", [new_folder, fresh_folder])
def test_a_limit_met_by_safetensors_is_the_same_message_and_leaves_nothing(tmp_path: Path, writer: type) -> None:
    too_large = pytest.raises(WriteError, match=r"'.*/model' cannot be written: a file would become larger")
    with too_large, writer(tmp_path / "model") as temporary:
        write_tensors(temporary / "weights.safetensors", {"a": torch.zeros(2**16)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_files")
def test_a_file_that_becomes_too_large_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    assert "a file would become larger than this process or file system allows" in refusal(tmp_path / "a", "x" * 2**17)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "this user may not write there"), (errno.EPERM, "this user may not write there"),
        (errno.EBUSY, "it is a mount point"), (errno.EMFILE, "too many open files"), (errno.EIO, "the device reports"),
        (errno.ESTALE, os.strerror(errno.ESTALE)),
    ],
)  # fmt: skip
def test_what_the_system_raises_is_put_into_words(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(WriteError, match=words) as caught, writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value.__cause__, OSError)


def test_errors_of_what_is_read_meanwhile_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "new"):
        (tmp_path / "absent").read_text()
    with pytest.raises(WriteError, match="disk is full"), new_folder(tmp_path / "new"):
        raise OSError(errno.ENOSPC, "no space", str(tmp_path / "shared memory"))
