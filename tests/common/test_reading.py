"""Text files come in whole, as JSON or YAML, or are refused in one way."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path

import pytest

from crema_core.common.reading import (
    inside,
    obstacle,
    obstacle_of_source,
    parse_json,
    parse_yaml,
    read_json,
    read_lines,
    read_object,
    read_text,
    read_yaml,
)
from crema_core.errors import CheckpointError, ReadError, first_line


def test_only_a_file_that_ends_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(tmp_path / "socket"))
    assert {path.name: obstacle(path) for path in sorted(tmp_path.iterdir())} == {
        "file": None,
        "folder": "is a folder",
        "loop": "is a symbolic link that leads in a circle",
        "pipe": "is a pipe, not a file",
        "socket": "is a socket, not a file",
        "zero": "is a device, not a file",
    }
    assert obstacle(tmp_path / "none") == "does not exist"
    assert obstacle(tmp_path / "file" / "none") == "lies in a path of which a part is a file"
    assert obstacle(tmp_path / ("x" * 300)) == "has a name that is too long for the file system"
    assert obstacle("a\0b") == "has a name that no file can have (embedded null byte)"
    assert obstacle_of_source(tmp_path / "folder") is None
    assert obstacle_of_source(tmp_path / "pipe") == "is a pipe, not a file"


PIECES = (b"a", b"\n", b"\r", b"\xe2\x82\xac", b"\xe2\x82", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xff\xfe", b"\0")


def test_lines_one_by_one_are_those_of_the_whole_text(tmp_path: Path) -> None:
    place = tmp_path / "file"

    def outcome(read: Callable[[], list[str]]) -> list[str] | str:
        try:
            return read()
        except ReadError as error:
            return str(error)

    kinds = set()
    longer = ((b"a", b"\r", b"\n"), (b"\n", b"\r", b"\r", b"\n", b"a"), (b"a\r", b"\n", b"\r\xff"))
    for pieces in chain(*(product(PIECES, repeat=length) for length in range(3)), longer):
        place.write_bytes(b"".join(pieces))
        expected = outcome(lambda: read_text(place).split("\n"))
        assert outcome(lambda: list(read_lines(place))) == expected, pieces
        kinds.add(type(expected))
    assert kinds == {list, str}
    for other in (tmp_path, tmp_path / "none"):
        assert outcome(lambda own=other: list(read_lines(own))) == outcome(lambda own=other: [read_text(own)])  # type: ignore[misc]


@pytest.mark.parametrize(("content", "text"), [(b"a\r\nb\rc\n", "a\nb\nc\n"), (b"\xef\xbb\xbfa", "a"), (b"", "")])
def test_texts_are_utf_8(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_text(tmp_path / "file", most=100) == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a".encode("utf-16"), "is UTF-16 text, not UTF-8"),
        (b"a\n\xff", "is not UTF-8 text (line 2, byte 2)"),
        (b"x" * 101, "has 101 bytes, and at most 100 are read"),
    ],
)
def test_other_texts_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ReadError) as caught:
        read_text(tmp_path / "file", most=100)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"'{tmp_path / 'file'}' {reason}. ")
    assert first_line(caught.value) == f"it {reason}"


DEEP = "is nested deeper than 100 brackets"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ("[" * 100_000, DEEP),
        ("[" * 101 + "]" * 101, DEEP),
        ("9" * 5000, "has a number of 5,000 digits"),
        ("9" * 101, "has a number of 101 digits"),
        ("{", "is not JSON (Expecting property name enclosed in double quotes at column 2)"),
        ('{\n"a": }', "is not JSON (Expecting value at line 2, column 6)"),
    ],
)
def test_json_that_nobody_writes_is_refused(text: str, reason: str) -> None:
    for own in (text, text.encode()):
        with pytest.raises(ReadError) as caught:
            parse_json(own)
        assert caught.value.reason == reason


def test_json_that_people_write_is_read() -> None:
    assert parse_json('{"a": [1, -2.5e3, null], "b": {"a": "\\ud800"}}') == {
        "a": [1, -2500.0, None],
        "b": {"a": "\ud800"},
    }
    assert parse_json("[" * 100 + "]" * 100)
    assert parse_json(f"[{', '.join(['[]'] * 500)}]") == [[]] * 500


LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))])
CHAIN = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 150))])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "has the key 'a' twice (line 3)"),
        (LAUGHS, "unfolds to more than 100,000 values"),
        (CHAIN, DEEP),
        ("a: &a [*a]", "has an alias of what it stands in (line 1)"),
        ("[" * 10_000, DEEP),
        (f"a: {'9' * 5000}", "has a number of 5,000 digits (line 1)"),
        ("a: 2020-13-45", "is not YAML (a value cannot be read: month must be in 1..12)"),
        ("a: \0", "is not YAML (special characters are not allowed)"),
        ("a: [", "is not YAML (expected the node content, but found '<stream end>', line 1)"),
    ],
)
def test_yaml_that_nobody_writes_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ReadError) as caught:
        parse_yaml(text)
    assert caught.value.reason == reason


def test_no_object_is_made_of_yaml() -> None:
    with pytest.raises(ReadError, match="could not determine a constructor for the tag"):
        parse_yaml("!!python/object/apply:os.system ['true']")


def test_aliases_and_merged_keys_that_people_write_are_read() -> None:
    text = "base: &base {lr: 1, epochs: 2}\nown: &own {<<: *base, lr: 3}\nall: [{<<: *own, epochs: 5}, *base]"
    assert parse_yaml(text) == {
        "base": {"lr": 1, "epochs": 2},
        "own": {"lr": 3, "epochs": 2},
        "all": [{"lr": 3, "epochs": 5}, {"lr": 1, "epochs": 2}],
    }
    assert parse_yaml("") is None


def test_files_of_settings_name_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1]")
    assert read_json(path) == [1] == read_yaml(path)
    with pytest.raises(ReadError) as caught:
        read_object(path)
    assert str(caught.value) == (
        f"'{path}' holds a list instead of an object in braces. Needed is a file of UTF-8 text that ends. Check the "
        "path and what is there."
    )


def test_a_name_out_of_a_file_leads_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "audio").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "in").symlink_to("audio")
    (folder / "loop").symlink_to("loop")
    for name in ("audio", "in", "none"):
        assert inside(folder, name, what="a folder") == folder / name
    assert inside(folder, "out", what="a folder", links=True) == folder / "out"
    for name in ("out", "loop", "..", ".", "", "/etc", "../outside", "audio/..", "a\\b", "a\0", None, 3, ["audio"]):
        with pytest.raises(CheckpointError) as caught:
            inside(folder, name, what="a folder")
        message = str(caught.value)
        assert message.startswith(f"'{folder}' names {str(name)!r} as a folder, which is ")
        assert message.endswith(" Nothing was changed.")
