"""What this SDK costs and gives against the script somebody would write: video and sound of SenseWorld on crema-tiny.

`benchmarks/by_hand_script.py` is transformers and peft alone, joint training of concatenated tokens. Beside it
`crema_core.fit`, joint and sequential, on the same clips, questions, rank, batches and epochs, with the same learning
rate and number of tokens for the language model or fewer. Equal updates favour sequential training, which makes one for
each modality; the last row gives joint training as many epochs as take the time of sequential training.

Every training is a process of its own: CPU seconds of one thread from importing to the last answer, resident memory,
accuracy over seeds, and the lines of code that are not the library's.

    python -m benchmarks.by_hand --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import peak_megabytes, report

SCRIPT = Path(__file__).with_name("by_hand_script.py")
TYPES = ("color", "shape", "first_sound")
CREMA = """
import crema_core
video, audio = {"name": "video", "num_frames": 2}, {"name": "audio", "window_s": 0.64, "num_windows": 4}
mmqa = {"lora_rank": 16, "lora_dropout": 0.0}
model = crema_core.build([video, audio], backbone=BACKBONE, mmqa=mmqa, seed=SEED)
options = {"mode": MODE, "epochs": EPOCHS, "lr": LR, "batch_size": 32, "weight_decay": 0.01, "max_grad_norm": 1.0}
crema_core.fit(model, TRAIN, out=OUT, seed=SEED, **options)
print(crema_core.evaluate(model, TEST, batch_size=128, max_new_tokens=3).accuracy)
"""
"""What `train_here` does, as somebody would write it; its lines are counted."""
BY_HAND, JOINT, SEQUENTIAL = "by hand", "joint", "sequential"


def lines_of_code(text: str) -> int:
    """Return the number of lines with code: no blank lines, comments and docstrings.

    >>> lines_of_code('"a docstring"\\n\\nx = 1  # a comment\\n# another\\ny = [\\n    2\\n]\\n')
    4
    """
    tree = ast.parse(text)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skipped |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = text.splitlines()
    code = [number for number, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith("#")]
    return len(set(code) - skipped)


def train_here(way: str, place: Path, *, epochs: int, lr: float, seed: int, precision: str = "fp32") -> float:
    """Train and ask in this process; return the accuracy."""
    import torch

    torch.set_num_threads(1)
    backbone, train, test = "crema-tiny", place / "train" / "asked.jsonl", place / "test" / "asked.jsonl"
    if way == BY_HAND:
        from benchmarks.by_hand_script import run
        from crema_core.model.shipped import tiny_backbone_path

        return run(str(tiny_backbone_path(backbone)), train, test, epochs=epochs, lr=lr, seed=seed)
    from crema_core.api.build import build
    from crema_core.evaluation.run import evaluate
    from crema_core.train.fit import fit

    video: dict[str, Any] = {"name": "video", "num_frames": 2}
    audio: dict[str, Any] = {"name": "audio", "window_s": 0.64, "num_windows": 4}
    model = build(
        [video, audio], backbone=backbone, mmqa={"lora_rank": 16, "lora_dropout": 0.0}, seed=seed, precision=precision
    )
    with tempfile.TemporaryDirectory() as out:
        settings: dict[str, Any] = {"mode": way, "epochs": epochs, "lr": lr, "seed": seed, "precision": precision}
        fit(model, train, out=Path(out) / "run", batch_size=32, weight_decay=0.01, max_grad_norm=1.0, **settings)
        return evaluate(model, test, batch_size=128, max_new_tokens=3).accuracy


def make_data(place: Path, *, clips: int, test_clips: int) -> None:
    """Make the world, and beside its questions files with those about video and sound and no other sources."""
    from crema_core.data.data_file import read_data_file
    from crema_world.generate import make_world

    for split, count in (("train", clips), ("test", test_clips)):
        world = place / split
        if not world.exists():
            make_world(world, num_clips=count, seed=0, split=split)  # type: ignore[arg-type]
        asked = [own for own in read_data_file(world / "data.jsonl") if own.type in TYPES]
        kept = [replace(own, sources={name: own.sources[name] for name in ("video", "audio")}) for own in asked]
        text = [
            {"id": own.id, "question": own.question, "answer": own.answer, "type": own.type}
            | {name: os.path.relpath(str(source), world) for name, source in own.sources.items()}
            for own in kept
        ]
        (world / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in text))


def train_apart(
    way: str, place: Path, *, epochs: int, lr: float, seed: int, precision: str = "fp32"
) -> dict[str, float]:
    """Train in a process of its own, and return accuracy, CPU seconds and megabytes."""
    command = [sys.executable, "-m", "benchmarks.by_hand", "--one", way, "--place", str(place)]
    command += ["--epochs", str(epochs), "--lr", str(lr), "--seeds", str(seed), "--precision", precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--place", type=Path, default=Path("runs/by_hand"), help="of the world")
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--test-clips", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--one", choices=(BY_HAND, JOINT, SEQUENTIAL), help="one training in this process")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the one training")
    given = parser.parse_args(arguments)
    if given.precision != "fp32" and given.one not in (JOINT, SEQUENTIAL):
        parser.error("--precision is of --one joint or sequential; the script by hand and the table are fp32")
    if given.one is not None:
        accuracy = train_here(
            given.one, given.place, epochs=given.epochs, lr=given.lr, seed=given.seeds[0], precision=given.precision
        )
        used = os.times()
        print(json.dumps({"accuracy": accuracy, "cpu_s": used.user + used.system, "MB": peak_megabytes()}))
        return 0
    make_data(given.place, clips=given.clips, test_clips=given.test_clips)
    rows = []
    found: dict[str, list[dict[str, float]]] = {}

    def train(label: str, way: str, epochs: int) -> None:
        own = [train_apart(way, given.place, epochs=epochs, lr=given.lr, seed=seed) for seed in given.seeds]
        found[label] = own
        accuracies = [100 * one["accuracy"] for one in own]
        row = {
            "row": label,
            "epochs": epochs,
            "accuracy": round(statistics.mean(accuracies), 1),
            "+-": round(statistics.stdev(accuracies), 1) if len(own) > 1 else "",
            "CPU s": round(statistics.median(one["cpu_s"] for one in own), 1),
            "MB": round(statistics.median(one["MB"] for one in own)),
            "lines of code": lines_of_code(SCRIPT.read_text() if way == BY_HAND else CREMA),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)

    train("transformers and peft by hand, joint", BY_HAND, given.epochs)
    train("crema fit, joint", JOINT, given.epochs)
    train("crema fit, sequential", SEQUENTIAL, given.epochs)
    # What one epoch takes, beside what does not grow with their number.
    start = train_apart(JOINT, given.place, epochs=1, lr=given.lr, seed=given.seeds[0])["cpu_s"]
    ways = [found[f"crema fit, {way}"] for way in (JOINT, SEQUENTIAL)]
    joint, sequential = (statistics.median(one["cpu_s"] for one in own) for own in ways)
    each = (joint - start) / (given.epochs - 1) if given.epochs > 1 else 0.0  # one epoch alone says nothing of the next
    longer = max(given.epochs, round(1 + (sequential - start) / each)) if each > 0 else given.epochs
    train("crema fit, joint, as long as sequential", JOINT, longer)
    report("by_hand", rows, clips=given.clips, lr=given.lr, seeds=given.seeds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
