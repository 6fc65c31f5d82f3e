"""Clips and sounds as people have them are read as the ffmpeg program reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ffmpeg import needs_ffmpeg
from tests.support.media_files import CUT_SHORT, WHOLE

pytest.importorskip("crema_audio")
from benchmarks.media_corpus import compare

pytestmark = [needs_ffmpeg, pytest.mark.slow]
FEW = """
cut-av.mp4 cut-v.mov cut-twice.mp4 cut-open.ts cut-hevc.ts cut-mpeg4.avi cut.m4a cut.mp3 cut.flac edits-two.mp4
edits-back.mp4
mid-7.ts mid-sound.ts mid-mpeg2.mpg mid-vp8.mkv mid-copied.mp4 slides.gif slides.mp4 last-long.mkv uneven.mkv
size-more.wav size-0.wav size-data.wav piped.mkv lost.ts lost-sound.ts hidden-vp8.webm b.avi whole.mpg
gap.mkv gap.ts gap-opus.webm gaps-many.m4a joined-sound.ts joined-later.ts joined-tune.ts joined.aac joined.ogg
mono-stereo.mp3 rates.mp3 rates.aac rates.ts sizes.ts sound-late.ts sound-early.mkv opus.mkv
turned-0h.mp4 turned-0v.mov turned-90.mp4 turned-90h.mp4 turned-180h.mkv turned-270v.mp4
""".split()
"""One of every kind; the others are for `make test-slow`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.mark.parametrize("name", FEW)
def test_a_file_is_read_as_ffmpeg_reads_it(name: str, folder: Path) -> None:
    rows = compare(name, folder)
    assert rows
    assert [row for row in rows if row.problem] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [own for own in WHOLE if own not in FEW])
def test_the_others_are_read_as_ffmpeg_reads_them(name: str, folder: Path) -> None:
    test_a_file_is_read_as_ffmpeg_reads_it(name, folder)


@pytest.mark.parametrize("name", CUT_SHORT)
def test_a_file_cut_short_is_refused_by_that_name(name: str, folder: Path) -> None:
    test_a_file_is_read_as_ffmpeg_reads_it(name, folder)
