"""PAVE on SenseWorld: a tiny video language model with and without side channels, and CREMA on the same clips.

The backbone is crema-tiny-video, or another one of `python -m crema_world.pretrain_video --out FOLDER`. Rows: as
it is (zero-shot), with LoRA on the language model and video alone, and with LoRA and patches for one and for several
supporting modalities; then crema-tiny with CREMA's adapters for the same modalities. Every row is trained on the same
questions, those about `video` and about all supporting modalities, and asked such questions about other clips; a
supporting modality that a row lacks can only be guessed.

`--rows table4`: the first supporting modality through a patch, through a patch with learned queries, and with its
tokens interleaved (PAVE, Table 4). `--rows stages`: the first supporting modality's patch is trained, then frozen with
the LoRA while the second's is trained (its Table 6).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import report
from crema_core.api.build import build
from crema_core.api.describe import cost_of
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record, read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_world.demo import DemoSettings
from crema_world.generate import make_world
from crema_world.questions import MODALITY_OF_TYPE

VIDEO: dict[str, Any] = {"name": "video", "num_frames": 2}
SIDES: dict[str, dict[str, Any]] = {
    "audio": {"name": "audio", "window_s": 0.64, "num_windows": 4},
    "thermal": {"name": "thermal", "num_frames": 1},
    "touch": {"name": "touch"},
}
FUSION = {"name": "pave", "embed_dim": 64, "num_heads": 4, "newlines": "one_token"}
LORA = {"rank": 16, "alpha": 16, "dropout": 0.0}
ROWS = ("pave", "crema", "table4", "stages")
TRAINING: dict[str, Any] = {"mode": "joint", "batch_size": 32, "weight_decay": 0.01, "max_grad_norm": 1.0}


@dataclass(frozen=True)
class Task:
    """What every row has in common.

    Attributes:
        backbone: the tiny video language model.
        out: where runs are written.
        train: questions about video and all supporting modalities.
        test: such questions on other clips.
        epochs, lr, seed: of every training; `lr` of PAVE's, CREMA's rows have the demo's.
    """

    backbone: str
    out: Path
    train: list[Record]
    test: list[Record]
    epochs: int
    lr: float
    seed: int

    def pave(self, own: Sequence[str], *, trained: bool = True) -> dict[str, Any]:
        """Return a row of the video language model with patches for some supporting modalities."""
        model = self._video_model(own, FUSION, tuning=LORA if trained else None)
        if trained:
            self._fit(model, "pave", **TRAINING, lr=self.lr)
        return self._row(model, "LoRA, PAVE" if own else "LoRA" if trained else "zero-shot")

    def table4(self, own: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows of other ways to read the same supporting modalities, each with the same LoRA."""
        ways = {"learned queries": FUSION | {"queries": "learnable"}, "interleaved": {"name": "pave_interleave"}}
        rows = []
        for label, fusion in ways.items():
            model = self._video_model(own, fusion, tuning=LORA)
            self._fit(model, label.replace(" ", "-"), **TRAINING, lr=self.lr)
            rows.append(self._row(model, f"LoRA, {label}"))
        return rows

    def stages(self, first: str, second: str) -> list[dict[str, Any]]:
        """Return rows of a first patch trained with the LoRA, and of a second one trained while both are frozen."""
        model = self._video_model([first], FUSION, tuning=LORA)
        self._fit(model, "first", **TRAINING, lr=self.lr)
        rows = [self._row(model, f"LoRA, {first}")]
        model.add_modality(SIDES[second])
        self._fit(model, "second", **TRAINING, lr=self.lr, modalities=[second])
        return [*rows, self._row(model, f"then {second}, the rest frozen")]

    def _video_model(self, own: Sequence[str], fusion: dict[str, Any], *, tuning: dict[str, Any] | None) -> CremaModel:
        modalities = [VIDEO, *(SIDES[name] for name in own)]
        return build(modalities, backbone=self.backbone, fusion=fusion, tuning=tuning, seed=self.seed)

    def crema(self, own: Sequence[str]) -> dict[str, Any]:
        """Return a row of crema-tiny with an adapter for each of the same modalities."""
        settings = DemoSettings()
        modalities = [VIDEO, *(SIDES[name] for name in own)]
        model = build(modalities, backbone=settings.backbone, mmqa=settings.mmqa, seed=self.seed)
        self._fit(model, "crema", **settings.training)
        return self._row(model, "CREMA")

    def _fit(self, model: CremaModel, label: str, **training: Any) -> None:
        out = self.out / f"{label}-{'-'.join(model.names)}"
        fit(model, self.train, out=out, seed=self.seed, **{**training, "epochs": self.epochs})

    def _row(self, model: CremaModel, label: str) -> dict[str, Any]:
        result = evaluate(model, self.test, batch_size=64, max_new_tokens=3)
        by_modality: dict[str, list[float]] = {}
        for kind, accuracy in result.by_type.items():
            by_modality.setdefault(MODALITY_OF_TYPE[kind], []).append(accuracy)
        cost = cost_of(model, model.names)
        trained = sum(parameter.numel() for parameter in model.trainable_parameters().values())
        return {
            "row": label,
            "modalities": " ".join(model.names),
            "accuracy": round(100 * result.accuracy, 1),
            **{f"about {name}": round(100 * sum(found) / len(found), 1) for name, found in sorted(by_modality.items())},
            "tokens": cost.num_tokens,
            "GFLOP": round(cost.total_gflops, 3),
            "of fusion": round(cost.gflops.get("fusion", 0.0), 3),
            "trained": trained,
        }


def questions(data_file: Path, names: Sequence[str]) -> list[Record]:
    """Return the questions about the named modalities, with the sources of these alone."""
    found = read_data_file(data_file, modalities=names)
    return [record for record in found if MODALITY_OF_TYPE.get(record.type) in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbone", default="crema-tiny-video", help="or a folder that pretrain_video wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/pave"))
    parser.add_argument("--sides", nargs="+", choices=sorted(SIDES), default=["audio", "thermal", "touch"])
    parser.add_argument("--clips", type=int, default=850, help="clips to train on")
    parser.add_argument("--test-clips", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["pave", "crema"])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    worlds = {"train": given.clips, "test": given.test_clips}
    for split, count in worlds.items():
        if not (given.out / split).exists():  # other rows of the same clips may have been asked for before
            make_world(given.out / split, num_clips=count, seed=given.seed, split=split)  # type: ignore[arg-type]
    asked = [questions(given.out / split / "data.jsonl", ["video", *given.sides]) for split in worlds]
    task = Task(given.backbone, given.out, *asked, given.epochs, given.lr, given.seed)
    growing = list(dict.fromkeys([(), tuple(given.sides[:1]), tuple(given.sides)]))
    rows = [task.pave((), trained=False)] if "pave" in given.rows else []
    rows += [task.pave(own) for own in growing if "pave" in given.rows]
    rows += [task.crema(own) for own in growing if "crema" in given.rows]
    rows += task.table4(given.sides[:1]) if "table4" in given.rows else []
    rows += task.stages(*given.sides[:2]) if "stages" in given.rows else []
    report("pave", rows, clips=given.clips, epochs=given.epochs, lr=given.lr, seed=given.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
