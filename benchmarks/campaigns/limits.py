"""Every verb that writes, under every limit a system has: is what cannot be written a message, and is nothing left?

An attempt is right when the verb ends with its documented exit code and a message, or succeeds because the limit does
not concern it; when there is no traceback, no hidden file is left beside the place, and what was there before is as it
was. Attempts run in processes of their own, forked from one that has imported torch, so this needs a POSIX system.
Full and read-only disks are mounted, and missing permissions tried as another user, where this user may do so.

    python -m benchmarks.campaigns.limits [--verbs fit eval --limits "full disk" --folder DIR]

Prints what is wrong, a table of right attempts by verb and limit, and one line of JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

import crema_core
from crema_core.cli.main import main as crema
from crema_core.common.tables import table
from crema_core.errors import CremaError
from crema_world.generate import make_world
from tests.support.experts import save_glpn

NOBODY = 65_534
"""Number of a user whose folders nobody else may write to."""
SMALL = 2**13
"""Bytes of the largest file under a limit of file sizes."""


class Given(NamedTuple):
    """What verbs work on.

    Attributes:
        data: a data file.
        clip: a clip.
        model: a saved model.
        depth: a model that estimates depth.
    """

    data: str
    clip: str
    model: str
    depth: str


Verb = Callable[[Given, str], int]
"""Writes to a place and returns the exit code."""


def _words(*words: str) -> Verb:
    def run(given: Given, place: str) -> int:
        known = {**given._asdict(), "place": place}
        return crema([word.format(**known) for word in words])

    return run


def _saved(save: Callable[[crema_core.CremaModel, str], object]) -> Verb:
    def run(given: Given, place: str) -> int:
        try:
            save(crema_core.load(given.model), place)
        except CremaError as error:
            print(error, file=sys.stderr)
            return 1
        return 0

    return run


VERBS: dict[str, tuple[Verb, bool]] = {  # and whether it writes a folder
    "fit": (_words("fit", "{data}", "--modalities", "video", "--set", "epochs=1", "--out", "{place}"), True),
    "encode": (_words("encode", "{data}", "--modalities", "video", "--cache", "{place}"), True),
    "eval": (_words("eval", "{model}", "{data}", "--out", "{place}"), False),
    "ablate": (_words("ablate", "{model}", "{data}", "--out", "{place}"), True),
    "show": (_words("show", "{clip}", "--modality", "video", "--out", "{place}.png"), False),
    "data check": (_words("data", "check", "{data}", "--deep", "--modalities", "video", "--keep", "{place}"), False),
    "world make": (_words("world", "make", "{place}", "--clips", "2"), True),
    "plugins new": (_words("plugins", "new", "radar", "--output", "{place}"), True),
    "extract": (
        _words("extract", "depth", "{clip}", "--depth-model", "{depth}", "--num-frames", "1", "--out", "{place}"),
        True,
    ),
    "split": (_words("split", "{model}", "{data}", "--out", "{place}"), True),
    "maps": (_words("maps", "{model}", "{data}:1", "--out", "{place}"), True),
    "save_pretrained": (_saved(lambda model, place: model.save_pretrained(place)), True),
    "save_adapter": (_saved(lambda model, place: model.save_adapter("video", place)), True),
}


class Limit(NamedTuple):
    """A place to write to, and what holds in the process that does.

    Attributes:
        place: made of an empty folder; None where this user cannot set the limit up.
        enter: called in the process that writes.
        is_for: "file", "folder" or "both".
    """

    place: Callable[[Path], Path | None]
    enter: Callable[[Path], None] = lambda folder: None
    is_for: str = "both"


def _file_in_the_way(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file" / "new"


def _taken_by_a_file(folder: Path) -> Path:
    (folder / "new").write_text("mine")
    return folder / "new"


def _taken_by_a_folder(folder: Path) -> Path:
    (folder / "new.png").mkdir()
    (folder / "new").mkdir()
    (folder / "new" / "mine").write_text("mine")
    return folder / "new"


def _circle(folder: Path) -> Path:
    (folder / "new.png").symlink_to(folder / "new.png")
    (folder / "new").symlink_to(folder / "new")
    return folder / "new"


def _mounted(*options: str) -> Callable[[Path], Path | None]:
    def place(folder: Path) -> Path | None:
        (folder / "disk").mkdir()
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder / "disk")]
        done = subprocess.run(command, check=False, capture_output=True)
        return folder / "disk" / "new" if done.returncode == 0 else None

    return place


def _foreign(folder: Path) -> Path | None:
    if os.getuid() != 0:
        (folder / "theirs").mkdir(mode=0o555)
    elif sys.platform != "linux":
        return None
    else:
        (folder / "theirs").mkdir(mode=0o755)
        os.chown(folder / "theirs", NOBODY, NOBODY)
    return folder / "theirs" / "new"


def _as_anybody(folder: Path) -> None:
    """Let permissions hold for root too: give up CAP_DAC_OVERRIDE (capset, version 3 of its structures)."""
    if os.getuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    library.capget(header, held)
    for word in (0, 1):  # effective, permitted
        held[word] &= ~(1 << 1)
    if library.capset(header, held) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _small_files(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, resource.RLIM_INFINITY))


def _deleted(folder: Path) -> None:
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()


LIMITS = {
    "small files": Limit(lambda folder: folder / "new", _small_files),
    "full disk": Limit(_mounted("size=16k")),
    "read-only disk": Limit(_mounted("ro")),
    "no permission": Limit(_foreign, _as_anybody),
    "too long a name": Limit(lambda folder: folder / ("n" * 300)),
    "file in the way": Limit(_file_in_the_way),
    "taken by a file": Limit(_taken_by_a_file, is_for="folder"),
    "taken by a folder": Limit(_taken_by_a_folder),
    "links in a circle": Limit(_circle),
    "deleted directory": Limit(lambda folder: Path("new"), _deleted),
    "/dev/full": Limit(lambda folder: Path("/dev/full"), is_for="file"),
}


def attempt(verb: Verb, given: Given, limit: Limit, folder: Path) -> str | None:
    """Return what is wrong about a verb under a limit; empty: nothing; None: this user cannot set the limit up."""
    place = limit.place(folder)
    if place is None:
        return None
    before = _contents(folder)
    log = folder.parent / f"{folder.name}.log"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            with log.open("wb") as stream:  # opened before the limits hold
                for number in (1, 2):
                    os.dup2(stream.fileno(), number)
            limit.enter(folder)
            code = verb(given, os.fspath(place))
        except BaseException:  # noqa: BLE001  # it is what is looked for
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    text = log.read_text(encoding="utf-8", errors="replace")
    after = _contents(folder)
    code = os.waitstatus_to_exitcode(status)
    if "Traceback" in text:
        return "traceback: " + text.strip().splitlines()[-1]
    if code not in (0, 1, 2, 3):
        return f"exit code {code}"
    if code == 1 and not text.strip():
        return "no message"
    if hidden := [name for name in after if (".tmp-" in name or ".old-" in name) and name not in before]:
        return f"left: {hidden[0]}"
    lost = [name for name, content in before.items() if after.get(name) != content]
    return f"lost: {lost[0]}" if lost else ""


def _contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.rglob("*"):
        mine = path.read_text() if path.is_file() and not path.is_symlink() and path.stat().st_size < 10 else ""
        found[str(path.relative_to(folder))] = mine
    return found


@contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """Take away what was mounted in a folder when the block ends."""
    try:
        yield
    finally:
        if os.path.ismount(folder / "disk"):
            subprocess.run(["umount", str(folder / "disk")], check=False)


def prepare(folder: Path) -> Given:
    """Make what verbs work on."""
    world = make_world(folder / "world", num_clips=2, seed=0, split="train")
    model = crema_core.build(["video"], backbone="crema-tiny")
    model.save_pretrained(folder / "model")
    save_glpn(folder / "depth")
    clip = next((folder / "world").rglob("*.mp4"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    return Given(str(world.data_file), str(clip), str(folder / "model"), str(folder / "depth"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--verbs", nargs="+", choices=list(VERBS), default=list(VERBS))
    parser.add_argument("--limits", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--folder", type=Path, help="where attempts and their logs are kept")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows, counts = [["verb", *given.limits]], {"right": 0, "wrong": 0, "not tried": 0}
    with tempfile.TemporaryDirectory() as own:
        folder = given.folder or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        work = prepare(folder / "given")
        for name in given.verbs:
            verb, is_folder = VERBS[name]
            row = [name]
            for title in given.limits:
                limit = LIMITS[title]
                if limit.is_for not in ("both", "folder" if is_folder else "file"):
                    row.append("")
                    continue
                place = folder / f"{name} {title}".replace(" ", "-").replace("/", "")
                place.mkdir()
                with unmounted(place):
                    wrong = attempt(verb, work, limit, place)
                counts["not tried" if wrong is None else "wrong" if wrong else "right"] += 1
                row.append("not tried" if wrong is None else "WRONG" if wrong else "right")
                if wrong:
                    print(f"{name}, {title}: {wrong}", flush=True)
            rows.append(row)
    print(table(rows))
    print(json.dumps({"limits": counts}))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
