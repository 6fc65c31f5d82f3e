"""Headers of laser scans are compared with the size of the file before a library follows them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from crema_3d.survey import impossible

ROW = 34
CHUNK = 50


def header(*, points: int, records: int = 0, begin: int = 227, kind: int = 3, row: int = ROW, minor: int = 2) -> bytes:
    head = bytearray(375 if minor == 4 else 227)
    head[:4], head[24], head[25] = b"LASF", 1, minor
    struct.pack_into("<HIIBH", head, 94, len(head), begin, records, kind, row)
    struct.pack_into("<I", head, 107, points if minor < 4 else 0)
    if minor == 4:
        struct.pack_into("<QIQ", head, 235, 0, 0, points)
    return bytes(head)


def compressed(*, points: int, chunks: int, bytes_per_chunk: int = 40) -> bytes:
    data = struct.pack("<HHBBHII", 2, 0, 3, 4, 0, 0, CHUNK)
    record = struct.pack("<H16sHH32s", 0, b"laszip encoded", 22_204, len(data), b"") + data
    begin = 227 + len(record)
    table = begin + 8 + chunks * bytes_per_chunk
    body = struct.pack("<q", table) + bytes(chunks * bytes_per_chunk) + struct.pack("<II", 0, chunks)
    return header(points=points, records=1, begin=begin, kind=0x83) + record + body


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (header(points=3) + bytes(3 * ROW), None),
        (header(points=3, begin=375, minor=4) + bytes(3 * ROW), None),
        (compressed(points=100, chunks=2), None),
        (compressed(points=51, chunks=2), None),
        (b"LASF", None),
        (header(points=4) + bytes(3 * ROW), "it is cut short: its header counts 4 points, and there is room for 3"),
        (header(points=10**9) + bytes(ROW), "it is cut short: its header counts 1,000,000,000 points"),
        (header(points=2**60, begin=375, minor=4) + bytes(ROW), "it is cut short: its header counts 1,152,921,504"),
        (header(points=1, records=2**32 - 1) + bytes(ROW), "counts 4,294,967,295 records before the points"),
        (header(points=1, begin=2**31) + bytes(ROW), "counts 0 records before the points"),
        (header(points=1, row=0) + bytes(ROW), "gives a point 0 bytes, and the smallest has 20"),
        (compressed(points=101, chunks=2), "it is cut short: its header counts 101 points, and there is room for 100"),
        (compressed(points=2**31, chunks=2), "it is cut short: its header counts 2,147,483,648 points"),
        (compressed(points=9, chunks=2, bytes_per_chunk=20), "it names 2 chunks of points"),
    ],
)
def test_what_a_header_cannot_mean_is_said(content: bytes, cause: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.las").write_bytes(content)
    found = impossible(tmp_path / "a.las")
    assert found is None if cause is None else found is not None and cause in found
