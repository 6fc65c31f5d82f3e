"""Is a media file as long as it says? Downloads that broke off and disks that were full leave files that are not.

FFmpeg decodes what is left of most containers without a word, so the containers' own sizes are compared with the file.
A size field alone proves nothing: streaming programs leave it empty and others get it wrong. A file is cut short when
what holds its pictures and sound, or the last part of it, ends behind the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNKNOWN_SIZE = 2**31
"""Wave files of programs that stream say so much or more."""
TRANSPORT_BYTES = (188, 192, 204)
"""Sizes of the packets of a transport stream: plain, with a time before each, with a checksum behind each."""
UNKNOWN_AIFF = 0x7F000000
"""AIFF files of programs that stream say so much or more."""
UNKNOWN_LONG = 2**62
"""The same of containers whose sizes have eight bytes."""
XING_SPARE = 500
"""Encoders count the first frame of an mp3 or not."""
_BOXES = b"ftyp styp moov moof mdat mfra free skip wide uuid pnot sidx meta emsg prft".split()
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FLV_TAGS = (8, 9, 18)  # sound, pictures, notes
# The ids of Matroska's elements that are looked at.
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_LEVEL_1 = {_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}


def cut_short(path: Path) -> str | None:
    """Return what shows that a file ends too early, a clause for `damaged`; None for files that are whole or unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.mp4")
        ...     _ = path.write_bytes(bytes([0, 0, 1, 0]) + b"mdat" + bytes(92))
        ...     cut_short(path)
        'it is cut short, 100 of at least 256 bytes'
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        told: int | None = None
        least = "at least "
        if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI "):
            told, least = _riff(file, size), ""
        elif head[4:8] in _BOXES:
            told = _boxes(file, size)
        elif head[:4] == _EBML.to_bytes(4):
            told = _matroska(file, size)
        elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            told, least = _aiff(file, size), ""
        elif head[:4] == b".snd":
            told, least = _au(head), ""
        elif head[:4] == b"caff":
            told = _caf(file, size)
        elif head == _W64:
            told, least = _w64(file, size), ""
        elif head[:3] == b"FLV":
            told = _flv(file, size)
        elif head == _ASF:
            told, least = _asf(file, size), ""
        elif head[:4] == b"OggS":
            told = _ogg(file, size)
        elif head[:4] == b"GIF8":
            told = _gif(file, size)
        elif head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
            told = _mp3(file, size)
        elif 0x47 in head or path.suffix.lower() == ".ts":
            told = _transport(file, size)
    return None if told is None or told <= size else f"it is cut short, {size} of {least}{told} bytes"


def _riff(file: BinaryIO, size: int) -> int | None:
    """Of wave and AVI files: the whole and the part with the contents must both end behind the end of the file."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        name, told, _ = _chunk(file.read(12))
        end = at + 8 + told
        if name != b"RIFF" or not 0 < told < UNKNOWN_SIZE:
            return None
        if end > size:
            return end if _contents_end(file, at + 12, size) > size + 1 else None  # a byte that fills up may lack
        at = end + end % 2  # AVI files of more than a gigabyte have several
    return None


def _contents_end(file: BinaryIO, at: int, size: int) -> int:
    while at + 8 <= size:
        file.seek(at)
        name, told, kind = _chunk(file.read(12))
        if name == b"data" or (name == b"LIST" and kind == b"movi"):
            return at + 8 + told if 0 < told < UNKNOWN_SIZE else 0
        at += 8 + told + told % 2
    return at + 8  # it ends before its contents begin


def _chunk(head: bytes) -> tuple[bytes, int, bytes]:
    return head[:4], int.from_bytes(head[4:8], "little"), head[8:12]


def _aiff(file: BinaryIO, size: int) -> int | None:
    """Of AIFF files: the whole and its sound must both end behind the end of the file."""
    file.seek(4)
    told = int.from_bytes(file.read(4))
    if not 0 < told < UNKNOWN_AIFF or 8 + told <= size:
        return None
    at = 12
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        own = int.from_bytes(head[4:])
        if head[:4] == b"SSND":
            return 8 + told if at + 8 + own > size + 1 else None  # a byte that fills up may lack
        at += 8 + own + own % 2
    return 8 + told


def _au(head: bytes) -> int | None:
    """Of AU files, which tell the length of their sound; those of programs that stream tell none."""
    begin, told = int.from_bytes(head[4:8]), int.from_bytes(head[8:12])
    return begin + told if 0 < told < UNKNOWN_SIZE else None


def _caf(file: BinaryIO, size: int) -> int | None:
    """Of CAF files: the sound must be there as a whole; one of unknown length goes to the end."""
    at = 8
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        told = int.from_bytes(head[4:], signed=True)
        if told < 0:
            return None
        at += 12 + told
        if at > size:
            return at if at < UNKNOWN_LONG else None
        if head[:4] == b"data":
            return None
    return at + 12


def _w64(file: BinaryIO, size: int) -> int | None:
    """Of Wave64 files: the whole and its sound must both end behind the end of the file."""
    file.seek(16)
    told = int.from_bytes(file.read(8), "little")
    if not size < told < UNKNOWN_LONG:
        return None
    at = 40
    while at + 24 <= size:
        file.seek(at)
        head = file.read(24)
        own = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            return told if at + own > size else None
        if own < 24:
            return None
        at += -(-own // 8) * 8
    return told


def _flv(file: BinaryIO, size: int) -> int | None:
    """Of FLV files: the length that most programs note, else the last tag must be there as a whole."""
    file.seek(0)
    head = file.read(4096)
    noted = head.find(b"filesize\x00")
    if 0 < noted <= len(head) - 17:
        (told,) = struct.unpack(">d", head[noted + 9 : noted + 17])
        if size < told < UNKNOWN_LONG:
            return int(told)
    file.seek(max(size - 4, 0))
    last = int.from_bytes(file.read(4))
    if 11 <= last <= size - 4:
        file.seek(size - 4 - last)
        tag = file.read(11)
        if tag[0] & 0x1F in _FLV_TAGS and int.from_bytes(tag[1:4]) == last - 11:
            return None
    at = int.from_bytes(head[5:9]) + 4
    while at < size:
        file.seek(at)
        tag = file.read(4)
        if tag[0] & 0x1F not in _FLV_TAGS:
            return None  # what programs append, or damage
        at += 11 + int.from_bytes(tag[1:].ljust(3, b"\0")) + 4
    return at if at > size else None


def _asf(file: BinaryIO, size: int) -> int | None:
    """Of ASF and WMV files: the whole and its packets must both end behind the end; broadcasts tell no length."""
    file.seek(16)
    header = int.from_bytes(file.read(8), "little")
    at, told = 30, 0
    while at + 24 <= min(header, size):
        file.seek(at)
        head = file.read(92)
        own = int.from_bytes(head[16:24], "little")
        if head[:16] == _ASF_FILE and len(head) == 92:
            told = 0 if head[88] & 1 else int.from_bytes(head[40:48], "little")
            break
        if own < 24:
            return None
        at += own
    if not size < told < UNKNOWN_LONG:
        return None
    if header > size:  # perhaps 2^63, where no file can be read
        return told
    file.seek(header)
    data = file.read(24)
    packets = header + int.from_bytes(data[16:24], "little")
    return told if len(data) < 24 or packets > size else None


def _boxes(file: BinaryIO, size: int) -> int | None:
    """Of MP4 and QuickTime files: no box may end behind the end of the file."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        told = int.from_bytes(head[:4])
        if head[4:8] not in _BOXES or told == 0:  # what programs append; the last box may say 0, "to the end"
            return None
        told = int.from_bytes(head[8:16]) if told == 1 else told
        if told < 8:
            return None
        if at + told > size:
            return at + told
        at += told
    return None


def _matroska(file: BinaryIO, size: int) -> int | None:
    """Of Matroska and WebM files: no element may end behind the end of the file, of streamed ones too."""
    for name, begin, end in _elements(file, 0, size):
        if end is not None and end > size:
            return end
        if name == _SEGMENT and end is None:
            return _streamed(file, begin, size)
    return None


def _streamed(file: BinaryIO, at: int, size: int) -> int | None:
    while at < size:
        for name, begin, end in _elements(file, at, size):
            if end is not None and end > size:
                return end
            if end is None and name == _CLUSTER:
                at = begin  # look into it: what follows is its own, or the next of its kind
                break
            if end is None:
                return None
        else:
            return None
    return None


def _elements(file: BinaryIO, at: int, size: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield name, beginning of the contents and end of elements; None: until something else begins."""
    while at < size:
        file.seek(at)
        head = file.read(12)
        width = 9 - head[0].bit_length()  # leading zeros tell the width of a number
        if width > 4:
            return
        rest = head[width:]
        if not rest:
            yield int.from_bytes(head[:width]), size, size + 1  # its name is there, its size is not
            return
        wide = 9 - rest[0].bit_length()
        if wide > 8:
            return
        told = int.from_bytes(rest[:wide]) & ((1 << 7 * wide) - 1)
        begin = at + width + wide
        if told == (1 << 7 * wide) - 1:
            yield int.from_bytes(head[:width]), begin, None
            return
        yield int.from_bytes(head[:width]), begin, begin + told
        at = begin + told


def _ogg(file: BinaryIO, size: int) -> int | None:
    """Of Ogg files: the last page must be there as a whole."""
    start = max(size - 70_000, 0)  # a page has up to 65,307 bytes
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return None
    table = tail[at + 27 : at + 27 + tail[at + 26]] if at + 26 < len(tail) else b""
    whole_head = at + 26 < len(tail) and len(table) == tail[at + 26]
    end = start + at + 27 + len(table) + sum(table) if whole_head else size + 1
    return end if end > size else None


def _gif(file: BinaryIO, size: int) -> int | None:
    """Of GIF files: every block must be there as a whole."""
    file.seek(0)
    raw = file.read()
    if len(raw) < 13:
        return 13
    at = 13 + _colours(raw[10])
    while at < size and raw[at] in (0x21, 0x2C):
        if raw[at] == 0x2C:
            at += 11 + (_colours(raw[at + 9]) if at + 9 < size else 0)
        else:
            at += 2
        while at < size and raw[at]:
            at += 1 + raw[at]
        at += 1
        if at > size:
            return at
    return None


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _mp3(file: BinaryIO, size: int) -> int | None:
    """Of mp3 files whose encoder noted their size."""
    file.seek(0)
    head = file.read(10)
    at = 0
    if head[:3] == b"ID3":
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(at)
    frame = file.read(64)
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    if mark < 0 or len(frame) < mark + 16 or not frame[mark + 7] & 2:
        return None
    told = at + int.from_bytes(frame[mark + 8 + 4 * (frame[mark + 7] & 1) :][:4])
    return told if told > size + XING_SPARE else None


def _transport(file: BinaryIO, size: int) -> int | None:
    """Of transport streams: the last packet must be there as a whole."""
    for packet in TRANSPORT_BYTES:
        file.seek(max(size - 6 * packet, 0))
        tail = file.read()
        for begin in range(min(packet, len(tail))):
            marks = tail[begin::packet]
            if len(marks) >= 4 and set(marks) == {0x47}:
                left = (len(tail) - begin) % packet
                # The time stands before the sync byte, the checksum behind the packet.
                whole = left == 0 or (packet == 192 and left == 188) or (packet == 204 and left == 188)
                return None if whole else size - left + packet
    return None
