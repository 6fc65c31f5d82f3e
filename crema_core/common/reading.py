"""Text files in, JSON and YAML: whatever is in the way becomes one error of ours.

What comes from outside may be a pipe that never ends, a folder, another encoding, brackets without end, a number of
5,000 digits, a key twice, or aliases that unfold to gigabytes. Libraries answer each with an exception of its own, or
hang. Whoever reads a file that people or other programs write does so here, and says in its own words what the file is.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crema_core.errors import CheckpointError, CremaError, ReadError

if TYPE_CHECKING:
    import yaml

MOST_DEPTH = 100
"""Brackets inside brackets; files of ours have six."""
MOST_DIGITS = 100
"""Of a whole number; beyond 4,300 Python refuses to print one, beyond 308 it is no float."""
MOST_NODES = 100_000
"""Values of a YAML file after its aliases are written out."""
MOST_BYTES = 100_000_000
"""Of a file of settings, JSON or YAML; those of ours have kilobytes."""
MOST_YAML_BYTES = 1_000_000
"""Of a YAML file, which is read at a megabyte in some seconds."""
MOST_SHOWN = 200
"""Characters of a path in a message."""
_OPENINGS = re.compile(rf"(?:[\[{{][ \t]*){{{MOST_DEPTH + 1}}}")
"""More openings one after the other than may be open at once."""
_BOMS_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_STREAMS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a disk"),
)
ABSENT, A_FOLDER = "does not exist", "is a folder"
_REASONS = {
    errno.ENOENT: ABSENT,
    errno.EACCES: "may not be read by this user",
    errno.EPERM: "may not be read by this user",
    errno.ENAMETOOLONG: "has a name that is too long for the file system",
    errno.ELOOP: "is a symbolic link that leads in a circle",
    errno.ENOTDIR: "lies in a path of which a part is a file",
    errno.EISDIR: A_FOLDER,
    errno.EMFILE: "cannot be opened, because this process has too many open files",
}


def obstacle(path: str | os.PathLike[str]) -> str | None:
    """Return why there is no file that ends at a path, the rest of a sentence about it; None where there is one.

    Only names and kinds are looked at. A pipe or device is never opened, which may wait for ever or do something.

    Example:
        >>> obstacle("/dev/null"), obstacle("/nowhere")
        ('is a device, not a file', 'does not exist')
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        return why(error)
    if stat.S_ISREG(mode):
        return None
    kind = next((name for holds, name in _STREAMS if holds(mode)), None)
    return A_FOLDER if kind is None else f"is {kind}, not a file"


def obstacle_of_source(path: Path) -> str | None:
    """Return why nothing can be read at a path, which may be a file or a folder of files; None where it can."""
    found = obstacle(path)
    return None if found == A_FOLDER else found


def why(error: BaseException) -> str:
    """Return the rest of a sentence about a file that the system did not open or that was not text."""
    if isinstance(error, ReadError):
        return error.reason
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"is not UTF-8 text (line {line}, byte {error.start})"
    if isinstance(error, UnicodeEncodeError):
        return "has a name that this system cannot spell"
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0, f"cannot be read ({error.strerror or type(error).__name__})")
    if isinstance(error, MemoryError):
        return "does not fit into the memory"
    return f"has a name that no file can have ({str(error) or type(error).__name__})"


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path in quotes for a message, its middle left out where it is very long."""
    text = os.fspath(path)
    return f"'{text}'" if len(text) <= MOST_SHOWN else f"'{text[:100]}...{text[-60:]}'"


def require_file(path: str | os.PathLike[str]) -> Path:
    """Return a path at which there is an ordinary file.

    Raises:
        ReadError: for anything else.
    """
    reason = obstacle(path)
    if reason is not None:
        raise _refused(path, reason)
    return Path(path)


def read_bytes(path: str | os.PathLike[str], *, most: int | None = MOST_BYTES) -> bytes:
    """Return what a file holds.

    Args:
        path: the file.
        most: bytes it may have; None: any number.

    Raises:
        ReadError: when there is no file, it may not be read, or it has more bytes.
    """
    place = require_file(path)
    try:
        size = place.stat().st_size
        if most is not None and size > most:
            raise _refused(path, f"has {size:,} bytes, and at most {most:,} are read")
        return place.read_bytes()
    except (OSError, MemoryError) as error:
        raise _refused(path, why(error)) from error


def read_text(path: str | os.PathLike[str], *, most: int | None = MOST_BYTES) -> str:
    r"""Return the text of a file; a byte order mark is left out, and lines end in `\n`.

    Args:
        path: the file.
        most: as of `read_bytes`.

    Raises:
        ReadError: as `read_bytes`, and when it is not UTF-8.
    """
    content = read_bytes(path, most=most)
    if content.startswith(_BOMS_UTF16):
        raise _refused(path, "is UTF-16 text, not UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except (UnicodeDecodeError, MemoryError) as error:
        raise _refused(path, why(error)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the lines of a text file of any size without their ends, as `read_text` and splitting give them.

    One line at a time is in memory. What is wrong with the file is raised where its reading comes to it.

    Raises:
        ReadError: as `read_text`, for every line that can be read before it as well.
    """
    place = require_file(path)
    num_before = num_lines = 0
    try:
        with place.open("rb") as stream:
            start = stream.read(max(map(len, (codecs.BOM_UTF8, *_BOMS_UTF16))))
            if start.startswith(_BOMS_UTF16):
                raise _refused(path, "is UTF-16 text, not UTF-8")
            stream.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
            line = b""
            for line in stream:
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    reason = f"is not UTF-8 text (line {num_lines + 1}, byte {num_before + error.start})"
                    raise _refused(path, reason) from error
                num_before, num_lines = num_before + len(line), num_lines + 1
                text = text.removesuffix("\n")
                if "\r" in text:
                    yield from text.removesuffix("\r" if line.endswith(b"\n") else "").split("\r")
                else:
                    yield text
            if not line or line.endswith(b"\n"):
                yield ""  # what stands behind the last end of a line
    except (OSError, MemoryError) as error:
        raise _refused(path, why(error)) from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file.

    Raises:
        ReadError: when it cannot be read or is not JSON.
    """
    return _parsed(path, parse_json, read_text(path))


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object.

    Raises:
        ReadError: when it cannot be read, is not JSON, or holds something else.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise _refused(path, f"holds {_kind(values)} instead of an object in braces")
    return values


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Return the content of a YAML file.

    Raises:
        ReadError: when it cannot be read or is not YAML.
    """
    return _parsed(path, parse_yaml, read_text(path, most=MOST_YAML_BYTES))


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ReadError: when it is not JSON, has a key twice, or numbers or brackets nobody writes.
    """
    try:
        # json.loads makes a decoder for every call, and knows bytes and a byte order mark.
        if isinstance(text, str) and not text.startswith("\ufeff"):
            values = _DECODER.decode(text)
        else:
            values = json.loads(text, **_RULES)
    except RecursionError:
        raise _faulty(f"is nested deeper than {MOST_DEPTH} brackets") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
        raise _faulty(f"is not JSON ({error.msg} at {line}column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise _faulty(f"is not JSON ({error.reason} at byte {error.start})") from error
    except MemoryError as error:
        raise _faulty(why(error)) from error
    openings = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if openings > MOST_DEPTH and _is_deep(values):
        raise _faulty(f"is nested deeper than {MOST_DEPTH} brackets")
    return values


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text; only plain values are made.

    Raises:
        ReadError: when it is not YAML, has a key twice, or aliases that unfold to more than anybody writes.
    """
    import yaml

    if _OPENINGS.search(text):  # PyYAML looks ahead over a thousand of them, in seconds
        raise _faulty(f"is nested deeper than {MOST_DEPTH} brackets")
    try:
        level = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # what follows calls itself for every bracket
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if level > MOST_DEPTH:
                raise _faulty(f"is nested deeper than {MOST_DEPTH} brackets")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _require_plain(node)
        return loader.construct_document(node)
    except ReadError:
        raise
    except RecursionError:
        raise _faulty(f"is nested deeper than {MOST_DEPTH} brackets") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "").strip().rstrip(".")
        raise _faulty(f"is not YAML ({said or type(error).__name__}{line})") from error
    # A date of the 45th, a number with a comma, an unfinished tag: PyYAML lets Python's own errors through.
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise _faulty(f"is not YAML (a value cannot be read: {str(error) or type(error).__name__})") from error


def inside(
    folder: Path, name: object, *, what: str, error: type[CremaError] = CheckpointError, links: bool = False
) -> Path:
    """Return the folder or file `name` directly inside `folder`, where `name` comes out of a file.

    Args:
        folder: of the file that names it.
        name: as the file has it.
        what: that is named, for the message: "a modality's folder".
        error: class of the error.
        links: whether a link may lead out, as those of the hub's cache do, whose files lie in a folder of their own.

    Raises:
        CremaError: of the class `error`, for an absolute path, one with parts, and a link that leads out.
    """
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
    if plain:
        place = folder / str(name)
        try:
            if links or not place.is_symlink() or place.resolve().parent == folder.resolve():
                return place
        except (OSError, RuntimeError, ValueError):  # a link in a circle, a name no file can have: it is refused below
            plain = False
    text = str(name) if len(str(name)) <= MOST_SHOWN else f"{str(name)[:MOST_SHOWN]}..."
    leads = "is a link that leads out of it" if plain else "is no plain name"
    raise error(
        f"{shown(folder)} names {text!r} as {what}, which {leads}. Accepted are names of what lies directly inside "
        "this folder, so that a file from somebody else reads nothing of yours. Use a folder as it was saved, or copy "
        "what the link leads to into it. Nothing was changed."
    )


def _parsed(path: str | os.PathLike[str], parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ReadError as error:
        raise _refused(path, error.reason) from error


def _refused(path: str | os.PathLike[str], reason: str) -> ReadError:
    return ReadError(
        f"{shown(path)} {reason}. Needed is a file of UTF-8 text that ends. Check the path and what is there.",
        reason=reason,
    )


def _faulty(reason: str) -> ReadError:
    return ReadError(
        f"A text {reason}. Needed is a text as it was written. Correct it, or copy it again.", reason=reason
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _faulty(f"has the key {_short(key)} twice")
            seen.add(key)
    return values


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _faulty(f"has a number of {len(digits):,} digits")
    return int(digits)


_RULES: dict[str, Any] = {"object_pairs_hook": _unique, "parse_int": _whole_number}
_DECODER = json.JSONDecoder(**_RULES)


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(values: object) -> str:
    return {"list": "a list", "str": "a text", "NoneType": "nothing"}.get(type(values).__name__, type(values).__name__)


def _is_deep(values: object) -> bool:
    """Return whether brackets stand inside more than `MOST_DEPTH` others."""
    level = [values]
    for _ in range(MOST_DEPTH):
        level = [part for own in level if isinstance(own, dict | list) for part in _parts(own)]
        if not level:
            return False
    return any(isinstance(own, dict | list) for own in level)


def _parts(own: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return own.values() if isinstance(own, Mapping) else own


def _require_plain(root: yaml.Node) -> None:
    """Refuse what is written once and unfolds, brackets and numbers without end, and keys that stand twice."""
    measures: dict[int, tuple[int, int]] = {}  # of every node: values and levels below it
    begun: set[int] = set()

    def measure(node: Any, level: int) -> tuple[int, int]:
        if id(node) in begun:
            raise _faulty(f"has an alias of what it stands in (line {node.start_mark.line + 1})")
        if id(node) not in measures:
            begun.add(id(node))
            below = [measure(part, level + 1) for part in _parts_of_node(node)]
            begun.remove(id(node))
            measures[id(node)] = 1 + sum(size for size, _ in below), 1 + max((levels for _, levels in below), default=0)
        size, levels = measures[id(node)]
        if level + levels > MOST_DEPTH:
            raise _faulty(f"is nested deeper than {MOST_DEPTH} brackets")
        if size > MOST_NODES:
            raise _faulty(f"unfolds to more than {MOST_NODES:,} values")
        return size, levels

    measure(root, 0)


def _parts_of_node(node: Any) -> list[Any]:
    line = node.start_mark.line + 1
    if isinstance(node.value, str):
        if node.tag.endswith((":int", ":float")) and len(node.value) > MOST_DIGITS:
            raise _faulty(f"has a number of {len(node.value):,} digits (line {line})")
        return []
    parts, keys = [], set()
    for entry in node.value:
        if not isinstance(entry, tuple):  # of a list
            parts.append(entry)
            continue
        key, value = entry
        parts += [key, value]
        if isinstance(key.value, str) and key.value != "<<":
            if (key.tag, key.value) in keys:
                raise _faulty(f"has the key {_short(key.value)} twice (line {key.start_mark.line + 1})")
            keys.add((key.tag, key.value))
    return parts
