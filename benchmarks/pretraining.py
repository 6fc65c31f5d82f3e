"""Zero-shot use of a sense that was trained alone, on SenseWorld: the counterpart of the paper's Table 18.

The major sense is trained on its own, and so is every other sense. Then each is put beside the major one by
concatenation without further training (appendix A.5), once as trained and once as new, and asked about held-out clips.
Each row is repeated with several seeds; mean and spread are printed, and one line of JSON per row.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crema_core.data.manifest import read_manifest
from crema_core.evaluation.run import evaluate
from crema_core.model.build import build
from crema_core.train.api import fit
from crema_core.world.demo import DemoSettings
from crema_core.world.generate import make_world


def train_alone(out: Path, sense: Mapping[str, Any], manifest: Path, settings: DemoSettings) -> Path:
    """Train one sense without any other and return the folder of its adapter."""
    model = build([sense], backbone=settings.backbone, mmqa=settings.mmqa, seed=settings.seed)
    records = [record for record in read_manifest(manifest, modalities=model.names) if record.sources]
    fit(model, records, out=out / "run", **{"seed": settings.seed, **settings.training})
    model.save_adapter(model.names[0], out / "adapter")
    return out / "adapter"


def ask(
    senses: Sequence[Mapping[str, Any]], adapters: Sequence[Path], manifest: Path, settings: DemoSettings
) -> tuple[float, dict[str, float]]:
    """Return the accuracy, in all and by type, of senses beside one another without training."""
    model = build(senses, backbone=settings.backbone, mmqa=settings.mmqa, fusion="concat", seed=settings.seed)
    for folder in adapters:
        model.load_adapter(folder)
    result = evaluate(model, read_manifest(manifest, modalities=model.names))
    return result.accuracy, dict(result.by_type)


def measure(out: Path, settings: DemoSettings) -> list[tuple[str, float, dict[str, float]]]:
    """Return label, accuracy and accuracy by type of every row, for one seed."""
    train, test = (
        make_world(out / split, num_clips=clips, seed=settings.seed, split=split).manifest
        for split, clips in (("train", settings.train_clips), ("test", settings.test_clips))
    )
    major, *others = settings.modalities
    own = train_alone(out / str(major["name"]), major, train, settings)
    rows = [(str(major["name"]), *ask([major], [own], test, settings))]
    for other in others:
        name = f"{major['name']} + {other['name']}"
        adapter = train_alone(out / str(other["name"]), other, train, settings)
        rows.append((f"{name}, new", *ask([major, other], [own], test, settings)))
        rows.append((f"{name}, trained alone", *ask([major, other], [own, adapter], test, settings)))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=None, help="training clips; None: as the demo")
    parser.add_argument("--epochs", type=int, default=None, help="epochs; None: as the demo")
    given = parser.parse_args(arguments)
    found: dict[str, list[tuple[float, dict[str, float]]]] = {}
    for seed in given.seeds:
        settings = replace(DemoSettings(), seed=seed)
        if given.clips is not None:
            settings = replace(settings, train_clips=given.clips, test_clips=given.clips)
        if given.epochs is not None:
            settings = replace(settings, training={**settings.training, "epochs": given.epochs})
        for label, accuracy, by_type in measure(given.out / f"seed-{seed}", settings):
            found.setdefault(label, []).append((accuracy, by_type))
    for label, runs in found.items():
        values = [accuracy for accuracy, _ in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{label:<40} {100 * statistics.mean(values):5.1f} +- {100 * spread:.1f}")
        print(json.dumps({"row": label, "accuracy": values, "by_type": [by_type for _, by_type in runs]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
