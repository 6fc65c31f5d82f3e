"""Zero-shot use of a modality that was trained alone, on SenseWorld: the counterpart of the paper's Table 18.

The major modality is trained on its own, and so is every other modality, each on the demo's captions and questions.
Then each is put beside the major one by concatenation without further training (appendix A.5), once as trained and once
as new, and asked about held-out clips: all questions, and those the modality is needed for, which it is asked by itself
too. Every row of a seed is printed as a line of JSON when it is there; at the end mean and standard deviation over
seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import report
from crema_core.api.build import build
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.result import EvaluationResult
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_world.demo import DemoSettings, training_records
from crema_world.generate import WorldSummary, make_world
from crema_world.questions import MODALITY_OF_TYPE


class Accuracy(NamedTuple):
    """Shares of held-out questions answered rightly, 0..1.

    Attributes:
        row: which modalities, trained alone, and whether the supporting one was trained or is new.
        overall: of all questions.
        own: of those that need the supporting modality, or the only one.
        without: the same questions, asked of the model without the supporting modality; None where it is the only one.
    """

    row: str
    overall: float
    own: float
    without: float | None


def train_alone(out: Path, modality: Mapping[str, Any], world: WorldSummary, settings: DemoSettings) -> Path:
    """Train one modality without any other and return the folder of its adapter."""
    model = build([modality], backbone=settings.backbone, mmqa=settings.mmqa, seed=settings.seed)
    records = [record for record in training_records(world, settings, model.names) if record.sources]
    fit(model, records, out=out / "run", **{"seed": settings.seed, **settings.training})
    model.save_adapter(model.names[0], out / "adapter")
    return out / "adapter"


def ask(
    modalities: Sequence[Mapping[str, Any]], adapters: Sequence[Path], world: WorldSummary, settings: DemoSettings
) -> EvaluationResult:
    """Return what modalities beside one another, without training together, answer."""
    model = build(modalities, backbone=settings.backbone, mmqa=settings.mmqa, fusion="concat", seed=settings.seed)
    for folder in adapters:
        model.load_adapter(folder)
    return evaluate(
        model,
        read_data_file(world.data_file, modalities=model.names),
        batch_size=settings.eval_batch_size,
        max_new_tokens=settings.max_new_tokens,
    )


def accuracy_of(result: EvaluationResult, modality: str) -> float:
    """Return the accuracy of the questions that need a modality."""
    own = [kind for kind in result.by_type if MODALITY_OF_TYPE[kind] == modality]
    return sum(result.by_type[kind] * result.counts[kind] for kind in own) / sum(result.counts[kind] for kind in own)


def measure(out: Path, settings: DemoSettings) -> Iterator[Accuracy]:
    """Yield every row of one seed."""
    train = make_world(out / "train", num_clips=settings.train_clips, seed=settings.seed, split="train")
    test = make_world(out / "test", num_clips=settings.test_clips, seed=settings.seed, split="test")
    major, *others = settings.modalities
    first = str(major["name"])
    own = train_alone(out / first, major, train, settings)
    alone = ask([major], [own], test, settings)
    yield Accuracy(first, alone.accuracy, accuracy_of(alone, first), None)
    for other in others:
        name = str(other["name"])
        adapter = train_alone(out / name, other, train, settings)
        by_itself = ask([other], [adapter], test, settings)
        yield Accuracy(name, by_itself.accuracy, accuracy_of(by_itself, name), None)
        for state, adapters in (("new", [own]), ("trained alone", [own, adapter])):
            result = ask([major, other], adapters, test, settings)
            row = f"{first} + {name}, {state}"
            yield Accuracy(row, result.accuracy, accuracy_of(result, name), accuracy_of(alone, name))


def summary(runs: Mapping[str, Sequence[Accuracy]]) -> list[dict[str, object]]:
    """Return mean and standard deviation over seeds of every row, in percent."""
    rows: list[dict[str, object]] = []
    for row, found in runs.items():
        columns = {"overall": [run.overall for run in found], "own": [run.own for run in found]}
        columns["own without it"] = [run.without for run in found if run.without is not None]
        rows.append({"row": row} | {name: _spread(values) for name, values in columns.items() if values})
    return rows


def _spread(values: Sequence[float]) -> str:
    deviation = f" +- {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modalities", nargs="+", default=None, help="beside the major one; None: all of the demo")
    parser.add_argument("--clips", type=int, default=None, help="training clips; None: as the demo")
    parser.add_argument("--epochs", type=int, default=None, help="epochs; None: as the demo")
    given = parser.parse_args(arguments)
    settings = DemoSettings()
    if given.modalities is not None:
        major, *others = settings.modalities
        settings = replace(settings, modalities=(major, *(one for one in others if one["name"] in given.modalities)))
    if given.clips is not None:
        settings = replace(settings, train_clips=given.clips)
    if given.epochs is not None:
        settings = replace(settings, training={**settings.training, "epochs": given.epochs})
    runs: dict[str, list[Accuracy]] = {}
    for seed in given.seeds:
        for found in measure(given.out / f"seed-{seed}", replace(settings, seed=seed)):
            runs.setdefault(found.row, []).append(found)
            print(json.dumps({"seed": seed, **found._asdict()}), flush=True)
    report("pretraining", summary(runs), seeds=given.seeds, clips=settings.train_clips,
           epochs=settings.training["epochs"], cpu_minutes=round(time.process_time() / 60, 1))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
