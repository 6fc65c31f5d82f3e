"""The damaged files of the kit are damaged, and what it cuts was whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crema_core.data.media import read_array, read_clip, read_image
from crema_core.errors import MediaError
from crema_core.testing.damage import damaged_files

CLIPS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".gif")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
READERS = {
    **dict.fromkeys(CLIPS, lambda path: read_clip(path, num_frames=2)),
    **dict.fromkeys(PICTURES, read_image),
    **dict.fromkeys((".npy", ".npz"), read_array),
}


@pytest.mark.parametrize("suffix", READERS)
def test_cut_files_come_from_whole_ones_that_core_reads(tmp_path: Path, suffix: str) -> None:
    found = list(damaged_files(tmp_path / f"a{suffix}", suffix, example=None, declared=frozenset({suffix})))
    READERS[suffix](tmp_path / f"a-whole{suffix}")
    whole = (tmp_path / f"a-whole{suffix}").stat().st_size
    sizes = {file.path.name: file.path.stat().st_size for file in found}
    assert sizes == {
        f"a-empty{suffix}": 0,
        f"a-noise{suffix}": 4_099,
        f"a-page{suffix}": sizes[f"a-page{suffix}"],
        "a-other.undeclared": 4_099,
        **{f"a-cut{percent}{suffix}": whole * percent // 100 for percent in (2, 50, 90)},
    }
    for file in found:
        if not file.may_be_read:
            with pytest.raises(MediaError):
                READERS[suffix](file.path)


def test_the_file_an_example_names_is_cut(tmp_path: Path) -> None:
    (tmp_path / "own.xyz9").write_bytes(b"0123456789" * 10)
    found = damaged_files(
        tmp_path / "a.xyz9", ".xyz9", example=tmp_path / "own.xyz9", declared=frozenset({".xyz9", ".undeclared"})
    )
    cut = {file.path.name: file.path.read_bytes() for file in found}
    assert list(cut) == ["a-empty.xyz9", "a-noise.xyz9", "a-page.xyz9", *(f"a-cut{n}.xyz9" for n in (2, 50, 90))]
    assert (cut["a-cut2.xyz9"], cut["a-cut50.xyz9"]) == (b"01", b"0123456789" * 5)


def test_an_array_of_the_example_is_what_its_files_hold(tmp_path: Path) -> None:
    given = np.arange(12.0).reshape(3, 4)
    list(damaged_files(tmp_path / "a.npy", ".npy", example=given, declared=frozenset()))
    assert np.array_equal(np.load(tmp_path / "a-whole.npy"), given)


def test_of_formats_it_cannot_write_the_kit_knows_the_beginning(tmp_path: Path) -> None:
    found = list(damaged_files(tmp_path / "a.las", ".las", example=None, declared=frozenset()))
    assert found[-1].path.read_bytes().startswith(b"LASF")
    assert (found[-1].what, found[-1].may_be_read) == ("a .las file cut off after its beginning", True)
