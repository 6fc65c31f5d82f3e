"""Damaged texts: mutants of every text file that is read, and what comes out of its reader.

Right is a result, or an error of ours whose message any terminal prints. Wrong is any other exception, and a reader
that does not come back. Run it so:

    python -m benchmarks.campaigns.texts --seed 0 --mutants 300

It prints a table and one line of JSON, and ends with exit code 3 when anything was wrong. Everything happens in one
process and in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from crema_core.errors import CremaError

CPU_SECONDS, SECONDS = 3, 60
"""After which a reader counts as one that hangs: busy, or waiting on a machine with other work."""
ROOM_BYTES = 2_000_000_000
"""Memory a reader may take, so that one that reads a device without end does not take the machine."""
MOST_MESSAGE = 20_000
"""Characters of a message; what was read is never repeated whole."""
ADAPTER = {
    "format": 1, "name": "video", "distribution": "crema-core", "version": "0.1.0", "api_version": "1.0",
    "options": {"num_frames": 4, "weights": None}, "mmqa": {"lora_rank": 4}, "prefix": "Frame {index}: ",
    "features": {"feature_dim": 8, "arithmetic": "float32", "encoded": {}}, "fusion": "self_gated",
    "has_fusion_block": False, "language_dim": 16, "language_model": None, "sha256": "0" * 64,
    "backbone": {"source": "crema-tiny", "revision": None, "precision": "fp32", "identity": "0" * 64},
}  # fmt: skip
MODEL = {
    "format": 1, "parts": {"fusion": {"name": "self_gated", "distribution": "crema-core", "version": "0.1.0"}},
    "backbone": {"source": "crema-tiny", "revision": None, "precision": "fp32"}, "language_model": None,
    "backbone_dropout": False, "fusion": {"name": "self_gated"}, "major": "video", "seed": 0,
    "template": {"question_text": "as_written", "max_question_tokens": None},
    "modalities": [{key: ADAPTER[key] for key in ("name", "distribution", "version", "options", "mmqa", "prefix")}],
    "identity": "0" * 64, "language_identity": None, "fusion_sha256": "0" * 64,
}  # fmt: skip
RUN = {
    "format": 1, "settings": {"lr": 0.001, "epochs": 2}, "modalities": ["video"], "major": "video",
    "backbone": "0" * 64, "data": "3 samples, 0123", "eval_data": None, "inputs": {"data": "a.jsonl"},
    "model": MODEL, "features": {},
}  # fmt: skip
STATE = {"position": [1, 2, 3], "processes": 1, "sha256": {"adapters": "0", "optimizer": "0", "random": "0"}}
LINE = {"id": "17", "question": "What is it?", "answer": "a drum", "choices": ["a drum", "a bell"], "video": "a.mp4"}
YAML = """\
data: train.jsonl
eval_data: eval.jsonl
modalities: [video, {name: audio, window_s: 2.5}]
backbone: crema-tiny
fusion: {name: self_gated}
settings:
  lr: 0.001
  epochs: 3
  cache: none
"""
PREDICTION = {
    "id": "1", "type": "sound", "question": "What is it?", "answer": "a drum", "prediction": "a bell",
    "correct": False, "modalities": ["video"], "num_tokens": 40, "answers": ["a drum"],
}  # fmt: skip


class Reader(NamedTuple):
    """A kind of text file, what a whole one holds, where it lies, and what reads it."""

    name: str
    file: str
    text: str
    read: Callable[[Path], object]


def readers() -> list[Reader]:
    """Return every reader of a text file that comes from outside, of core and of packages; none builds a model."""
    return [*readers_of_core(), *readers_of_packages()]


def readers_of_core() -> list[Reader]:
    """Return the readers of core."""
    from crema_core.cli.fit_config import read_config as read_yaml
    from crema_core.cli.inputs import assignments
    from crema_core.cli.resume import _modalities
    from crema_core.data.data_file import read_data_file, read_pairs
    from crema_core.data.reading import _kept
    from crema_core.data.unusable import read_skipped
    from crema_core.evaluation.predictions import read_predictions
    from crema_core.features.cache.folder import check, read_entries, summarize
    from crema_core.features.cache.keys import FileDigests
    from crema_core.model.checkpoint import is_pretrained, own_template
    from crema_core.model.load_backbone import read_answer_format
    from crema_core.model.settings import BackboneSettings, ModelSettings
    from crema_core.saving.adapters import read_description
    from crema_core.saving.bundle import missing_parts, read_model_config, read_state
    from crema_core.train.checkpoints import pointed, read_checkpoint
    from crema_core.train.metrics import read_metrics
    from crema_core.train.run import read_config as read_run

    def model(path: Path) -> object:
        config = read_model_config(path.parent)
        ModelSettings.of_saved(config)
        missing_parts(path.parent, config)
        return read_state(path.parent, config)

    def run(path: Path) -> object:
        class Config(NamedTuple):
            modalities: tuple[object, ...] | None
            fusion: object

        found = read_run(path.parent)
        return _modalities(path.parent, Config(({"name": "video"},), found["model"].get("fusion", "self_gated")))  # type: ignore[arg-type]

    def pointer(path: Path) -> object:
        found = pointed(path.parent, path.name)
        assert found is None or found.parent == path.parent / "checkpoints", "a checkpoint is inside of its run"
        return found

    def whole_file(path: Path) -> object:
        return read_data_file(path, on_error="skip", max_skipped=1.0)

    def shard(path: Path) -> object:
        try:
            return read_entries(_shard(path))
        except FileNotFoundError:  # as it says: another process took it away
            return None

    line, prediction = json.dumps(LINE) + "\n", json.dumps(PREDICTION) + "\n"
    note = json.dumps(["/data/a.wav", 10, 11, 12, 13, "0" * 64])
    header = json.dumps({
        "__metadata__": {"0123": "float32 00000000"},
        "0123.values": {"dtype": "F32", "shape": [1, 1, 2], "data_offsets": [0, 8]},
    })  # fmt: skip
    metrics = json.dumps({"kind": "step", "epoch": 0, "step": 1, "loss": 0.5}) + "\n"
    kept = json.dumps({"source": "0123", "fault": None, "doubts": []}) + "\n"
    skipped = {"of": "data", "data": "a.jsonl", "line": 1, "id": "1", "modality": "video", "source": "a.mp4"}
    skipped |= {"why": "missing", "reason": "does not exist"}
    return [
        Reader("data file", "data.jsonl", line * 3, whole_file),
        Reader("pairs", "pairs.jsonl", line * 3, lambda path: read_pairs(path, ["video"])),
        Reader("YAML configuration", "fit.yaml", YAML, lambda path: read_yaml(str(path), {}, {})),
        Reader("--set", "set.txt", "settings=[1, {a: 2.5}]", lambda path: assignments([_words(path)])),
        Reader("crema.json", "model/crema.json", json.dumps(MODEL, indent=2), model),
        Reader("adapter.json", "adapter/adapter.json", json.dumps(ADAPTER), lambda path: read_description(path.parent)),
        Reader("config.json of a run", "run/config.json", json.dumps(RUN), run),
        Reader("state.json", "epoch/state.json", json.dumps(STATE), lambda path: read_checkpoint(path.parent)),
        Reader("pointer", "run2/last", "epoch-001-step-000010\n", pointer),
        Reader("metrics.jsonl", "metrics.jsonl", metrics * 3, read_metrics),
        Reader("predictions", "predictions.jsonl", prediction * 2, read_predictions),
        Reader("results of data check", "kept.jsonl", kept * 2, _kept),
        Reader("skipped.jsonl", "skipped.jsonl", json.dumps(skipped) + "\n", read_skipped),
        Reader("crema-cache.json", "cache/crema-cache.json", '{"format": 1}\n', lambda path: summarize(path.parent)),
        Reader("header of a shard", "cache2/features/a-1/1.safetensors", header, shard),
        Reader("identity.json", "cache3/features/a-1/identity.json", '{"modality": "a"}',
               lambda path: (summarize(path.parents[2]), check(path.parents[2]))),
        Reader("journal", "journal/1.jsonl", note, lambda path: FileDigests(_journal(path).parent)),
        Reader("crema_backbone.json", "backbone/crema_backbone.json", '{"pretrained": false}',
               lambda path: is_pretrained(path.parent)),
        Reader("crema_template.json", "backbone2/crema_template.json", '{"choice_scoring": "released"}',
               lambda path: own_template(str(path.parent), None)),
        Reader("config.json of a backbone", "backbone3/config.json", '{"model_type": "blip-2", "text_config": {}}',
               lambda path: read_answer_format(BackboneSettings(backbone=str(path.parent)))),
    ]  # fmt: skip


SETTING = {"model": "Intel/dpt", "num_frames": 16, "start_s": None}
CELL = {"accuracy": 0.5, "by_type": {"sound": 0.5}, "trainable": 10, "tokens_per_answer": 4.5, "num_steps": 3,
        "duration_s": None, "exited": {"video": 2}}  # fmt: skip
CLIP_CONFIG = {"vision_config": {
    "add_time_attn": True, "image_size": 16, "patch_size": 8, "num_frames": 4, "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
}}  # fmt: skip
TIMM_CONFIG = {"architecture": "vit_tiny", "num_features": 192, "pretrained_cfg": {
    "input_size": [3, 16, 16], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9, "crop_mode": "center",
}}  # fmt: skip
PROCESSOR = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 16},
             "crop_size": {"height": 16, "width": 16}, "rescale_factor": 0.0039, "do_normalize": True}  # fmt: skip
ANNOTATION = {"video_id": "00000028", "question_id": 30, "type": '["Audio", "Counting"]', "anser": "more_than_ten",
              "question_content": "How many <Object> sound?", "templ_values": '["drums"]'}  # fmt: skip


def readers_of_packages() -> list[Reader]:
    """Return the readers of this repository's packages."""
    from crema_analysis.cells import CellStore
    from crema_analysis.difficulty import Difficulty, write_parts
    from crema_benchmarks.music_avqa import SPEC as MUSIC
    from crema_core.data.data_file import scan_data_file
    from crema_core.datasets.prepare import _check_texts, _lines
    from crema_core.datasets.read import Place
    from crema_encoders.images import ClipEncoder
    from crema_encoders.languagebind import LanguageBindEncoder
    from crema_encoders.timm import TimmEncoder
    from crema_geometry.extract.lines import write_with_results
    from crema_geometry.extract.run import check_record
    from crema_geometry.extract.settings import ExtractSettings
    from crema_pave.released_run import lora_settings
    from crema_videochat2.checkpoint import _own_config

    def cell(path: Path) -> object:
        (path.parents[1] / "table.json").write_text("{}")
        return CellStore(path.parents[1], {}).read("row", 0)

    def parts(path: Path) -> object:
        usable = tuple(scan_data_file(path, modalities=["video"]).records)
        return write_parts(path.parent / "parts", path, Difficulty(easy=usable, hard=(), modalities=("video",)))

    def extracted(path: Path) -> object:
        scan_data_file(path, modalities=["video"])
        return write_with_results(path, path.parent / "with" / "data.jsonl", {})

    def music(path: Path) -> object:
        found = _lines(MUSIC, Place(path.parents[2], "train"), ["video", "audio"])
        _check_texts(MUSIC, found)
        return found

    def table(path: Path) -> object:
        return list(Place(path.parent, "train").table(path.name))

    def lines(path: Path) -> object:
        return list(Place(path.parent, "train").json_lines(path.name))

    def languagebind(path: Path) -> object:
        encoder = LanguageBindEncoder(str(path.parent))
        return encoder.grid, encoder.feature_dim, encoder.preprocessing, encoder.frames_wanted(3)

    def timm(path: Path) -> object:
        encoder = TimmEncoder(str(path.parent))
        return encoder.feature_dim, encoder.preprocessing

    def processor(path: Path) -> object:
        (path.parent / "config.json").write_text('{"model_type": "clip_vision_model", "image_size": 16}')
        return ClipEncoder(str(path.parent)).preprocessing

    extraction = ExtractSettings(modalities=("depth",))
    record = json.dumps({"depth": extraction.identity("depth")})
    lora = json.dumps({"r": 4, "lora_alpha": 8})
    return [
        Reader("cell of a table", "table/cells/row.seed-0.json", json.dumps(CELL), cell),
        Reader("table.json", "table2/table.json", '{"data": "0123", "epochs": 3}',
               lambda path: CellStore(path.parent, {"data": "0123", "epochs": 3})),
        Reader("data file to split", "split/data.jsonl", json.dumps(LINE) + "\n", parts),
        Reader("data file to extract of", "extract/data.jsonl", json.dumps(LINE) + "\n", extracted),
        Reader("record of extract", "extract2/extract.json", record,
               lambda path: check_record(extraction, path.parent)),
        Reader("adapter_config.json", "pave/adapter_config.json", lora, lambda path: lora_settings(path.parent)),
        Reader("annotations, JSON", f"{MUSIC.files_of('train')[0]}", json.dumps([ANNOTATION] * 2), music),
        Reader("annotations, CSV", "table.csv", 'id,question,answer\n1,"a, b",c\n2,d,"e\n"\n', table),
        Reader("annotations, JSON lines", "lines.jsonl", json.dumps(ANNOTATION) + "\n", lines),
        Reader("config.json of LanguageBind", "bind/config.json", json.dumps(CLIP_CONFIG), languagebind),
        Reader("config.json of timm", "timm/config.json", json.dumps(TIMM_CONFIG), timm),
        Reader("preprocessor_config.json", "clip/preprocessor_config.json", json.dumps(PROCESSOR), processor),
        Reader("config.json of VideoChat2", "chat/config.json", '{"model_type": "videochat2", "language_model": "a"}',
               lambda path: _own_config(str(path.parent), None)),
    ]  # fmt: skip


def obstacle(path: Path) -> str | None:
    """Return why there is no file at a path, None where there is one; whatever its name is."""
    try:
        return None if path.is_file() else "no file"
    except OSError as error:
        return str(error)


def _words(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape") if obstacle(path) is None else ""


def _shard(path: Path) -> Path:
    """Put the length before a header and eight bytes behind it, as in a safetensors file; anything else stays."""
    if obstacle(path) is not None:
        return path
    content = path.read_bytes()
    whole = path.with_suffix(".whole")
    whole.write_bytes(len(content).to_bytes(8, "little") + content + bytes(8))
    return whole


def _journal(path: Path) -> Path:
    """Put the right checksum before every line: what is damaged is the content."""
    if obstacle(path) is None:
        lines = [line for line in path.read_bytes().splitlines() if line]
        path.write_bytes(b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines))
    return path


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**50, 1.5, float("nan"), float("inf"), "", "../../etc", "/etc/passwd", "a\0b", "\ud800",
    "x" * 5000, [], {}, [[]], [None], {"": None}, [1, 2, 3, 4, 5, 6, 7, 8, 9], "ünï\U0001f514", "\ud83d" * 50, "null",
)  # fmt: skip
RAW = (b"9" * 5000, b"-" + b"9" * 4000, b"1e999", b"[" * 10_000, b'{"a":' * 5000, b"[" * 300 + b"]" * 300, b"NaN",
       b"'", b'"\\ud800"', b'"\\u0000"', b"&a [*a]", b"*a", b"!!python/object:os.system {}", b"2020-13-45",
       b"? [a]\n: b", b"190:20:30:99", b"0x", b"=", b"<<: [*a]", b"\xff", b"\xed\xa0\x80",
       b"\x00", b"\r", b"\x85", b"%TAG")  # fmt: skip
LAUGHS = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)), "settings: {a: *a8}"]
)
OBSTACLES = ("folder", "pipe", "device", "loop", "broken link", "nothing", "zero", "long name")


def mutants(text: str, count: int, draws: random.Random, *, is_yaml: bool) -> Iterator[bytes]:
    """Yield damaged versions of a text, the systematic ones first.

    Args:
        text: a whole one.
        count: how many.
        draws: where they are damaged.
        is_yaml: whether it is YAML, for what only that has.
    """
    whole = text.encode()
    made: list[bytes] = [
        b"", b"\n", b"\0", b"null", b"[]", b"0", b'"x"', b"[" * 10_000, b'{"a":' * 10_000, b"9" * 5000, b"\xff\xfe",
        whole.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + whole, text.encode("utf-16"), text.encode("utf-16-le"),
        whole + whole, whole[: len(whole) // 2], b"\0" * 1000, LAUGHS.encode() if is_yaml else b"{}",
    ]  # fmt: skip
    yield from made[:count]
    for _ in range(count - len(made)):
        kind = draws.randrange(4)
        if kind == 0 and not is_yaml:
            yield _other_value(text, draws)
        elif kind == 1:
            at, raw = draws.randrange(len(whole) + 1), draws.choice(RAW)
            yield whole[:at] + raw + whole[at:]
        elif kind == 2:
            at = draws.randrange(len(whole))
            stop = at + draws.randrange(1, 20)
            yield whole[:at] + bytes(draws.randrange(256) for _ in range(draws.randrange(4))) + whole[stop:]
        else:
            yield _raw_value(text, draws)


def _other_value(text: str, draws: random.Random) -> bytes:
    """Exchange, drop or repeat one value of one line of JSON."""
    try:
        values = json.loads(text)
        rest = ""
    except ValueError:
        first, _, rest = text.partition("\n")
        try:
            values = json.loads(first)
        except ValueError:  # no JSON at all
            return text.encode() + b"\0"
    places = list(_places(values))
    if not places:
        return json.dumps(draws.choice(VALUES)).encode()
    owner, key = draws.choice(places)
    if draws.randrange(4):
        owner[key] = draws.choice(VALUES)
    else:
        del owner[key]
    return f"{json.dumps(values)}\n{rest}".encode()


def _raw_value(text: str, draws: random.Random) -> bytes:
    """Put something raw behind a colon, or a key a second time."""
    whole = text.encode()
    colons = [at for at, byte in enumerate(whole) if byte == ord(":")]
    if not colons:
        return draws.choice(RAW)
    at = draws.choice(colons) + 1
    ends = [end for end in range(at, len(whole)) if whole[end : end + 1] in b",}]\n"] or [len(whole)]
    if draws.randrange(5) == 0 and whole.startswith(b"{"):
        return whole.replace(b"{", b'{"format": 1, "id": "2", ', 1)
    return whole[:at] + b" " + draws.choice(RAW) + whole[ends[0] :]


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    parts = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(parts):
        yield values, key
        yield from _places(value)


class Counts(NamedTuple):
    """What came out of one reader: results, errors of ours, and by name what was wrong."""

    read: int
    refused: int
    wrong: Counter[str]


def attack(reader: Reader, place: Path, *, count: int, seed: int, examples: dict[str, bytes] | None = None) -> Counts:
    """Feed mutants of a text to its reader, and what is no file.

    Args:
        reader: the kind of text.
        place: an empty folder.
        count: number of mutants.
        seed: of their damage.
        examples: takes the first mutant of every wrong kind.
    """
    path = place / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "complete").touch()
    if "features" in reader.file:
        (path.parents[2] / "crema-cache.json").write_text('{"format": 1}')
    draws = random.Random(f"{seed} {reader.name}")
    outcomes: Counter[str] = Counter()
    wrong: Counter[str] = Counter()

    def note(found: str, mutant: bytes) -> None:
        outcomes[found if found in ("read", "refused") else "wrong"] += 1
        if found not in ("read", "refused"):
            wrong[found] += 1
            if examples is not None:
                examples.setdefault(f"{reader.name}: {found}", mutant[:2000])

    path.write_text(reader.text, encoding="utf-8")
    for mutant in mutants(reader.text, count, draws, is_yaml=reader.file.endswith((".yaml", ".txt"))):
        path.write_bytes(mutant)
        note(outcome(reader.read, path), mutant)
    for name in OBSTACLES:
        path.unlink()
        note(outcome(reader.read, _instead(path, name)), name.encode())
        _clear(path)
        path.touch()
    return Counts(outcomes["read"], outcomes["refused"], wrong)


def _instead(path: Path, name: str) -> Path:
    """Put something that is no text file where one was expected."""
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "nothing":
        return path
    elif name == "long name":
        return path.with_name("x" * 300 + path.suffix) if path.suffix != ".json" else path
    else:
        targets = {"device": "/dev/null", "zero": "/dev/zero", "loop": path.name, "broken link": "nowhere"}
        path.symlink_to(targets[name])
    return path


def _clear(path: Path) -> None:
    if path.is_symlink() or path.exists():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def outcome(read: Callable[[Path], object], path: Path) -> str:
    """Return "read", "refused", or what went wrong."""
    try:
        with _alarm():
            read(path)
    except CremaError as error:
        message = str(error)
        if len(message) > MOST_MESSAGE:
            return "a message without end"
        message.encode("ascii", "backslashreplace").decode()
        return "refused"
    except TimeoutError:
        return "hangs"
    except Exception as error:  # noqa: BLE001 - this is what is counted
        return type(error).__name__
    return "read"


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise TimeoutError

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, CPU_SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, SECONDS)}
    previous = {number: signal.signal(number, ring) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, own in previous.items():
            signal.signal(number, own)


def main(argv: list[str] | None = None) -> int:
    """Run the campaign and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=300, help="of every kind of text")
    parser.add_argument("--examples", action="store_true", help="print the first mutant of every wrong kind")
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    kinds = readers()
    own = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + ROOM_BYTES, -1))
    examples: dict[str, bytes] = {}
    found: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory() as name:
        for number, reader in enumerate(kinds):
            place = Path(name) / str(number)
            place.mkdir()
            found[reader.name] = attack(reader, place, count=arguments.mutants, seed=arguments.seed, examples=examples)
    print(f"{'text':<28}{'mutants':>9}{'read':>7}{'refused':>9}{'wrong':>7}  what")
    for title, own in found.items():
        total = own.read + own.refused + own.wrong.total()
        what = ", ".join(f"{count} {kind}" for kind, count in own.wrong.most_common())
        print(f"{title:<28}{total:>9}{own.read:>7}{own.refused:>9}{own.wrong.total():>7}  {what}")
    if arguments.examples:
        for title, mutant in examples.items():
            print(f"{title}: {mutant[:300]!r}")
    print(json.dumps(as_facts(found, seed=arguments.seed)))
    return 3 if any(own.wrong for own in found.values()) else 0


def as_facts(found: Mapping[str, Counts], *, seed: int) -> dict[str, Any]:
    """Return the counts as JSON data."""
    wrong = sum((own.wrong for own in found.values()), Counter[str]())
    total = sum(own.read + own.refused + own.wrong.total() for own in found.values())
    return {
        "campaign": "texts",
        "seed": seed,
        "mutants": total,
        "wrong": wrong.total(),
        "by_kind": dict(wrong),
        "by_text": {name: own.wrong.total() for name, own in found.items() if own.wrong},
    }


if __name__ == "__main__":
    sys.exit(main())
