"""The benchmark of encoding: its clips can be read, its job encodes all of them, its index holds what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.encoding import by_job, by_part, index, write_clips


@pytest.mark.slow
def test_every_part_of_encoding_is_measured(tmp_path: Path) -> None:
    paths = write_clips(tmp_path, 2, seconds=1, height=64)
    rows = [*by_part(paths, "crema-tiny", tmp_path), by_job(paths, "crema-tiny", tmp_path)]
    assert [row["part"] for row in rows] == [
        "read (digest)",
        "decode and prepare",
        "encoder (ViT of 6 layers, 112 pixels)",
        "keep (features of the paper's size, bf16)",
        "the whole job",
    ]
    assert all(row["s_clip"] > 0 for row in rows[:-1])  # the last is a difference of two measurements


def test_the_index_is_measured_for_each_shard_and_source(tmp_path: Path) -> None:
    row = index(3, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert row["ms_shard"] > 0
    assert 40 < row["bytes_source"] < 20_000
