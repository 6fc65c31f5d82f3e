"""The benchmark of reading: all it compares read the same, and every figure is there."""

from __future__ import annotations

from pathlib import Path

from benchmarks.encoding import write_clips
from benchmarks.reading import SETS, decode, fill, measure


def test_a_clip_is_read_apart_together_and_only_decoded(tmp_path: Path) -> None:
    (path,) = write_clips(tmp_path, 1, seconds=1, height=64, with_sound=True)
    assert decode(str(path), with_sound=False) == 30
    assert decode(str(path), with_sound=True) > 60
    row = measure([str(path)], SETS[-1], repeats=1)
    assert row["modalities"] == "video audio dense_video"
    for name in ("apart", "together", "decoding alone"):
        least, median, most = map(float, str(row[name]).split())
        assert 0 < least <= median <= most
    row = fill([str(path)], SETS[-1], repeats=1)
    for name in ("apart", "together"):
        least, median, most = map(float, str(row[name]).split())
        assert 0 < least <= median <= most
