"""Damaged run folders, checkpoints, saved models, adapters, caches and answers: an equal result, or one error of ours.

Every file is cut short, has a byte changed or a page of it zeroed, is deleted, is replaced by a folder or by another
file of the same folder. Then the folder is used as before: a run is resumed, a model loaded, an adapter put in, an
evaluation continued. Right is the result that the whole folder gives, or a `CremaError` in three parts; wrong is
anything else that is raised, and a result that differs without a word.

In text files a changed byte has its highest bit set, so that it cannot be taken for somebody's edit; a text that was
edited is what it is. Lines of `metrics.jsonl` that are gone are said, and no result needs them.

    python -m benchmarks.campaigns.damage [--count 12 --seed 0 --only run model --folder DIR]

Prints what is wrong, a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import random
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.common.tables import table
from crema_core.errors import CremaError
from crema_core.evaluation.run import evaluate
from crema_core.features.feature_cache import as_cache
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.saving.bundle import init_from
from crema_core.train.fit import fit
from tests.support.backbones import save_random_blip2
from tests.support.metrics import without_times
from tests.train.file_modalities import random_model, write_data

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 2, "lr": 1e-2, "log_every": 1, "checkpoint_every": 1, "seed": 7}
TEXTS = (".json", ".jsonl", ".md", "")
PAGE = 512
CUT, CHANGED, ZEROED, DELETED, FOLDER, OTHER = "cut", "changed", "zeroed", "deleted", "a folder", "another file"


class Subject(NamedTuple):
    """A folder that is damaged.

    Attributes:
        make: writes it into a place.
        use: returns what it gives, as plain data.
    """

    make: Callable[[Path], object]
    use: Callable[[Path], Any]


class Damage(NamedTuple):
    """What is done to a file."""

    kind: str
    do: Callable[[Path], object]


def damages(file: Path, others: Sequence[Path], count: int, draw: random.Random) -> Iterator[Damage]:
    """Yield what happens to a file: one of each kind, then as many changed and cut ones as make `count`."""
    content = file.read_bytes()

    def cut(size: int) -> Damage:
        return Damage(CUT, lambda path: path.write_bytes(content[:size]))

    def changed(at: int) -> Damage:
        bit = 0x80 if file.suffix in TEXTS else 1 << draw.randrange(8)
        return Damage(
            CHANGED, lambda path: path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
        )

    def zeroed(at: int) -> Damage:
        rest = content[at + PAGE :]
        zeros = bytes(min(PAGE, len(content) - at))
        return Damage(ZEROED, lambda path: path.write_bytes(content[:at] + zeros + rest))

    def replaced(path: Path) -> None:
        path.unlink()
        path.mkdir()

    kinds = [Damage(DELETED, Path.unlink), Damage(FOLDER, replaced), cut(0)]
    if content:
        kinds += [cut(len(content) - 1), cut(len(content) // 2), zeroed(0)]
    if swapped := [own for own in others if own != file and own.suffix == file.suffix]:
        other = draw.choice(swapped).read_bytes()
        if other != content:
            kinds.append(Damage(OTHER, lambda path: path.write_bytes(other)))
    yield from kinds[:count]
    for _ in range(count - len(kinds) if content else 0):
        make = draw.choice((changed, changed, cut, zeroed))
        yield make(draw.randrange(len(content)))


def subjects(given: Path) -> dict[str, Subject]:
    """Return what is damaged, by name; `given` has data and a backbone."""
    data = given / "train" / "data.jsonl"

    def begin_run(place: Path) -> object:
        class StoppedError(BaseException):
            """Like a killed process."""

        class Stop:
            @staticmethod
            @hookimpl
            def crema_step_finished(step: int) -> None:
                if step == 5:
                    raise StoppedError

        hooks = Hooks(strict=True)
        hooks.add(Stop, name="stop")
        try:
            _fit(given, place, hooks=hooks)
        except StoppedError:
            return None
        raise AssertionError("the run ends before it is stopped")

    def resume(place: Path) -> object:
        said = io.StringIO()
        model, run = _fit(given, place, resume=True, status=StatusLine(said))
        lines = "lost" if "metrics.jsonl has lost lines" in said.getvalue() else without_times(run.metrics)
        return [_digest(model), run.best_score, lines]

    def load_adapter(place: Path) -> str:
        model = _model(given)
        model.load_adapter(place)
        return _digest(model)

    def load(place: Path) -> str:
        model = _model(given)
        init_from(model, place)
        return _digest(model)

    def ask(cache: Path | None = None, out: Path | None = None, *, resume: bool = False) -> object:
        model = _model(given)
        kept = None if cache is None else as_cache(model, cache)
        result = evaluate(model, data, batch_size=2, cache=kept, out=out, resume=resume, announce=False)
        answers = None if out is None else sorted(out.read_text(encoding="utf-8").splitlines())
        return [result.accuracy, result.num_samples, answers]

    return {
        "run": Subject(begin_run, resume),
        "model": Subject(lambda place: _model(given).save_pretrained(place), load),
        "adapter": Subject(lambda place: _model(given).save_adapter("other", place), load_adapter),
        "features": Subject(lambda place: ask(place), lambda place: ask(place)),
        "answers": Subject(
            lambda place: (place.mkdir(), ask(out=place / "a.jsonl")),
            lambda place: ask(out=place / "a.jsonl", resume=True),
        ),
    }


def outcome(subject: Subject, place: Path, expected: Any) -> str:
    """Return "equal", "refused", or what is wrong."""
    try:
        found = subject.use(place)
    except CremaError as error:
        return "refused" if in_three_parts(str(error)) else f"not three parts: {error}"
    except Exception as error:  # noqa: BLE001  # it is what is looked for
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    is_equal = found == expected or (isinstance(found, list) and found[-1] == "lost" and found[:-1] == expected[:-1])
    return "equal" if is_equal else "another result"


def in_three_parts(message: str) -> bool:
    """Return whether a message says what came, what is accepted, and what to do."""
    return len(re.split(r"[.!?:](?: |\n)", message)) >= 3


def attack(
    name: str, subject: Subject, folder: Path, *, count: int, seed: int, tell: Callable[[str], object] = print
) -> Counter[str]:
    """Damage every file of a folder `count` times and return how often it was equal, refused and wrong."""
    whole, place = folder / "whole", folder / "damaged"
    subject.make(whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    shutil.copytree(whole, place)
    expected = subject.use(place)
    shutil.rmtree(place)
    counts: Counter[str] = Counter()
    for file in files:
        draw = random.Random(f"{seed} {name} {file}")
        for number, damage in enumerate(damages(whole / file, [whole / own for own in files], count, draw)):
            shutil.copytree(whole, place)
            damage.do(place / file)
            found = outcome(subject, place, expected)
            shutil.rmtree(place)
            counts[found if found in ("equal", "refused") else "wrong"] += 1
            if found not in ("equal", "refused"):
                tell(f"{name}, {file}, {damage.kind} ({number}): {found}")
    return counts


def prepare(given: Path) -> None:
    """Write data and a backbone into a new folder."""
    save_random_blip2(given / "t5")
    write_data(given / "train", 6, modalities="mo")
    write_data(given / "valid", 3, seed=1, modalities="mo")


def _model(given: Path) -> CremaModel:
    return random_model(given / "t5", dropout=0.1, num=2)


def _fit(given: Path, place: Path, **more: Any) -> tuple[CremaModel, Any]:
    model = _model(given)
    data = [given / part / "data.jsonl" for part in ("train", "valid")]
    return model, fit(model, *data, out=place, **{"status": StatusLine(enabled=False), **SETTINGS, **more})


def _digest(model: CremaModel) -> str:
    state = model.adapter_state_dict()
    parts = [key.encode() + state[key].detach().contiguous().numpy().tobytes() for key in sorted(state)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def campaign(folder: Path, *, count: int, seed: int, only: Sequence[str] | None = None) -> dict[str, Counter[str]]:
    """Damage, print what is wrong, and return the counts by subject."""
    logging.disable(logging.ERROR)
    prepare(folder / "given")
    found = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, subject in subjects(folder / "given").items():
                if not only or name in only:
                    (folder / name).mkdir()
                    found[name] = attack(name, subject, folder / name, count=count, seed=seed)
    finally:
        logging.disable(logging.NOTSET)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=12, help="damages of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="subjects")
    parser.add_argument("--folder", type=Path, help="where everything is kept; new")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="damage-") as own:
        found = campaign(options.folder or Path(own), count=options.count, seed=options.seed, only=options.only)
    rows = [["folder", "damaged", "equal", "refused", "wrong"]]
    for name, counts in found.items():
        rows.append([name, *map(str, (counts.total(), counts["equal"], counts["refused"], counts["wrong"]))])
    print(table(rows))
    print(json.dumps({"seed": options.seed, "damage": {name: dict(counts) for name, counts in found.items()}}))
    return 3 if any(counts["wrong"] for counts in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
