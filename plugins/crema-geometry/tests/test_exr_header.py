"""What an OpenEXR header announces, without the library."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

from crema_core.errors import MediaError
from crema_geometry.exr import SEVERAL_PARTS, announced_bytes, read_exr_channels


def part(width: int, height: int, channels: int) -> bytes:
    listed = b"".join(
        f"layer.{number}".encode() + b"\0" + struct.pack("<iIii", 2, 0, 1, 1) for number in range(channels)
    )
    window = struct.pack("<4i", -3, 5, width - 4, height + 4)
    attributes = [(b"comments", b"string", b"hello"), (b"channels", b"chlist", listed + b"\0")]
    attributes.append((b"dataWindow", b"box2i", window))
    return b"".join(name + b"\0" + kind + b"\0" + struct.pack("<I", len(own)) + own for name, kind, own in attributes)


@pytest.mark.parametrize(
    ("parts", "num_bytes"), [([(7, 5, 3)], 420), ([(7, 5, 3), (100_000, 100_000, 1)], 4 * 10**10 + 420)]
)
def test_the_numbers_of_every_channel_and_part_are_counted(
    tmp_path: Path, parts: list[tuple[int, int, int]], num_bytes: int
) -> None:
    several = len(parts) > 1
    version = 2 | (SEVERAL_PARTS if several else 0)
    content = struct.pack("<II", 20000630, version) + b"".join(part(*own) + b"\0" for own in parts) + b"\0" * several
    (tmp_path / "a.exr").write_bytes(content + b"pixels")
    assert announced_bytes(tmp_path / "a.exr") == num_bytes


def test_what_is_no_header_announces_nothing(tmp_path: Path) -> None:
    for content in (
        b"v/1",
        b"no exr at all",
        struct.pack("<II", 20000630, 2),
        struct.pack("<II", 20000630, 2) + b"x" * 900,
    ):
        (tmp_path / "a.exr").write_bytes(content)
        assert announced_bytes(tmp_path / "a.exr") == 0


def test_what_a_header_announces_is_compared_with_the_bound_before_the_library_sees_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", ModuleType("OpenEXR"))  # without anything that could decode
    content = struct.pack("<II", 20000630, 2) + part(100_000, 100_000, 1) + b"\0"
    (tmp_path / "a.exr").write_bytes(content)
    with pytest.raises(MediaError, match="holds channels of 10,000,000,000 numbers in all: 40 GB once decoded"):
        read_exr_channels(tmp_path / "a.exr")
