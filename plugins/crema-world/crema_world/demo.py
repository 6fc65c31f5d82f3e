"""The main job: one model trained on all modalities of the world, then asked about clips it has never seen.

Read `run_demo` from top to bottom: make the world, build, train, evaluate growing sets of modalities, evaluate with one
modality exchanged between clips, write the results. The folder it leaves:

    OUT/world/{train,test}/   the clips and their questions
    OUT/run/                  the training run
    OUT/model/                the saved model with its card
    OUT/predictions/*.jsonl   every answer, by set of modalities
    OUT/results.json          the table and everything else as data
    OUT/report.html           the same to look at
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from crema_core.api.build import build
from crema_core.api.describe import cost_of
from crema_core.api.model import CremaModel
from crema_core.common.atomic import write_text
from crema_core.common.environment import environment
from crema_core.common.processes import ALONE, Processes
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, read_data_file
from crema_core.evaluation.result import EvaluationResult
from crema_core.evaluation.run import evaluate
from crema_core.features.feature_cache import FeatureCache
from crema_core.report.card import write_card
from crema_core.train.fit import fit
from crema_core.train.run import Run
from crema_world.demo_folder import take_over
from crema_world.demo_results import DemoResult, Row, missed, reference_rows
from crema_world.generate import WorldSummary, make_world
from crema_world.questions import MODALITY_OF_TYPE
from crema_world.scene import IMAGE_SIZE

OPTIONS: dict[str, dict[str, Any]] = {
    "crema-tiny-vlm": {"qformer": {"layers": 2, "width": 128, "num_queries": 8}, "image_size": IMAGE_SIZE}
}
"""Settings of `crema_core.build` for a backbone of this package."""


@dataclass(frozen=True)
class DemoSettings:
    """Every number of the demo.

    Attributes:
        backbone: "crema-tiny", "crema-tiny-vlm" or another folder.
        options: further settings of `crema_core.build`.
        modalities: modalities with options, in the order of training and of the growing sets; the first is the major
            one.
        mmqa: adapter sizes.
        train_clips, test_clips: clips made for training and for testing; the splits share no scene.
        seed: of the world, the model and the training.
        captions: whether to train on captions, which spell all facts of a clip at once.
        questions_per_clip: questions of each clip to train on, drawn at random from its nine.
        training: settings of `crema_core.fit` besides the seed.
        max_new_tokens: longest answer in evaluation.
        eval_batch_size: questions per pass in evaluation.
        least_accuracy: with all modalities, to pass.
        rgb_below, rgb_above: how far the major modality alone may be below and above what it can give, to pass.
        deviations: standard deviations of guessing by which a shuffled modality's accuracy may be above chance, to
            pass.
    """

    backbone: str = "crema-tiny"
    options: dict[str, Any] = field(default_factory=dict)
    modalities: tuple[dict[str, Any], ...] = (
        {"name": "video", "num_frames": 2},
        {"name": "audio", "window_s": 0.64, "num_windows": 4},
        {"name": "depth", "num_frames": 1},
        {"name": "flow", "num_frames": 2},
        {"name": "normals", "num_frames": 1},
        {"name": "pointcloud", "num_points": 384},
        {"name": "touch"},
        {"name": "thermal", "num_frames": 1},
    )
    mmqa: dict[str, Any] = field(default_factory=lambda: {"lora_rank": 16, "lora_dropout": 0.0})
    train_clips: int = 850
    test_clips: int = 100
    seed: int = 0
    captions: bool = True
    questions_per_clip: int = 2
    training: dict[str, Any] = field(
        default_factory=lambda: {
            "epochs": 4,
            "batch_size": 32,
            "lr": 2e-3,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "modality_dropout": 0.1,
        }
    )
    max_new_tokens: int = 3
    eval_batch_size: int = 128
    least_accuracy: float = 0.9
    rgb_below: float = 0.1
    rgb_above: float = 0.05
    deviations: float = 3.0


def run_demo(
    out: Path,
    settings: DemoSettings | None = None,
    *,
    say: Callable[[str], None] = print,
    processes: Processes = ALONE,
) -> DemoResult:
    """Run the demo.

    Args:
        out: a new folder, or that of an earlier demo, which is replaced.
        settings: None: the defaults.
        say: gets a line of text after each phase, in the main process.
        processes: those that share the work; all of them make this same call and get the same result.

    Raises:
        CheckpointError: when `out` holds something else; nothing is changed then.
        WorldError: when the tiny backbone is not installed.
        BuildError: when a package of a modality is missing.
    """
    settings = settings or DemoSettings()
    processes.from_main(lambda: take_over(out, asdict(settings)))
    status = StatusLine() if processes.is_main else StatusLine(enabled=False)
    clock = _Clock(say if processes.is_main else lambda text: None, status)
    with clock.phase("build"):
        model = build(
            settings.modalities,
            backbone=settings.backbone,
            mmqa=settings.mmqa,
            seed=settings.seed,
            **{**OPTIONS.get(settings.backbone, {}), **settings.options},
        )
    with clock.phase("world"):
        worlds = processes.from_main(lambda: _worlds(out / "world", settings, processes=processes.count))
    with clock.phase("train"):
        records = training_records(worlds["train"], settings, model.names)
        run = fit(model, records, out=out / "run", status=status, **_training(settings))
    records = read_data_file(worlds["test"].data_file, modalities=model.names)
    with clock.phase("evaluate"):
        cache = FeatureCache(model)
        ask = _Asker(model, cache, settings, processes)
        rows = [
            *reference_rows(worlds["test"].majority),
            *_growing(ask, records, out, status),
            *_shuffled(ask, records),
        ]
    result = DemoResult(
        rows=tuple(rows),
        missed=tuple(missed(rows, settings)),
        seconds=clock.seconds,
        exited=run.exited,
        num_questions=len(records),
        environment=environment(),
        settings=asdict(settings),
    )
    with clock.phase("report"):
        processes.from_main(lambda: _write(out, model, run, records, result))
    return result


def _worlds(place: Path, settings: DemoSettings, *, processes: int) -> dict[str, WorldSummary]:
    splits: tuple[tuple[Literal["train", "test"], int], ...]
    splits = ("train", settings.train_clips), ("test", settings.test_clips)
    return {
        split: make_world(place / split, num_clips=count, seed=settings.seed, split=split, processes=processes)
        for split, count in splits
    }


def _training(settings: DemoSettings) -> dict[str, Any]:
    return {"seed": settings.seed, "log_every": 5, **settings.training}


def training_records(world: WorldSummary, settings: DemoSettings, names: Sequence[str]) -> list[Record]:
    """Return the captions and some of the questions of every clip; the same settings give the same."""
    records = read_data_file(world.captions, modalities=names) if settings.captions else []
    generator = random.Random(settings.seed)
    by_clip: dict[str, list[Record]] = {}
    for record in read_data_file(world.data_file, modalities=names):
        by_clip.setdefault(record.id.partition("-")[0], []).append(record)
    for own in by_clip.values():
        records += generator.sample(own, min(settings.questions_per_clip, len(own)))
    return records


@dataclass(frozen=True)
class _Asker:
    """Evaluation with what every row of the table has in common."""

    model: CremaModel
    cache: FeatureCache
    settings: DemoSettings
    processes: Processes

    def __call__(self, records: Sequence[Record], **arguments: Any) -> EvaluationResult:
        return evaluate(
            self.model,
            records,
            batch_size=self.settings.eval_batch_size,
            max_new_tokens=self.settings.max_new_tokens,
            cache=self.cache,
            processes=self.processes,
            **arguments,
        )


def _growing(ask: _Asker, records: Sequence[Record], out: Path, status: StatusLine) -> Iterator[Row]:
    """Evaluate the question alone, then one modality more at a time."""
    model, names = ask.model, ask.model.names
    for count in range(len(names) + 1):
        modalities = names[:count]
        file = out / "predictions" / f"{count}-{modalities[-1] if modalities else 'question'}.jsonl"
        result = ask(records, modalities=modalities, out=file, status=status)
        # The answer is one word and the end token.
        cost = cost_of(model, modalities, sources=records[0].sources, question=records[0].question, num_answer_tokens=2)
        label = ("+ " if count > 1 else "") + modalities[-1] if modalities else "question alone, model"
        yield Row(
            label=label if count < len(names) else f"{label} = all",
            kind="set",
            modalities=modalities,
            accuracy=result.accuracy,
            by_type=result.by_type,
            counts=result.counts,
            trainable=_trainable(model, modalities),
            num_tokens=result.tokens_per_answer,
            gflops=cost.total_gflops,
        )


def _shuffled(ask: _Asker, records: Sequence[Record]) -> Iterator[Row]:
    """Evaluate each modality's own questions with all modalities, this one taken from another clip."""
    for name in ask.model.names:
        own = [record for record in records if MODALITY_OF_TYPE[record.type] == name]
        result = ask(own, shuffle=name, seed=ask.settings.seed)
        yield Row(
            label=f"all, {name} shuffled",
            kind="shuffled",
            modalities=(name,),
            accuracy=None,
            by_type=result.by_type,
            counts=result.counts,
        )


def _trainable(model: CremaModel, modalities: Sequence[str]) -> int:
    adapters = [parameter for name in modalities for parameter in model.adapter_parameters(name).values()]
    supporting = [name for name in modalities if name != model.major]
    shared = model.fusion.shared_parameters() if supporting else {}
    fusion = {**model.fusion_parameters(supporting), **shared}
    return sum(parameter.numel() for parameter in [*adapters, *fusion.values()])


def _write(out: Path, model: CremaModel, run: Run, records: Sequence[Record], result: DemoResult) -> None:
    from crema_world.demo_report import write_demo_report

    model.save_pretrained(out / "model")
    every = next(row for row in result.rows if row.modalities == model.names and row.kind == "set")
    write_card(out / "model", model, metrics={"accuracy on unseen clips": every.accuracy or 0.0})
    write_text(out / "results.json", json.dumps(result.to_dict(), indent=2) + "\n")
    write_demo_report(out, run.path, records, result)


class _Clock:
    """Measures the phases and states how long each took."""

    def __init__(self, say: Callable[[str], None], status: StatusLine) -> None:
        self.say, self.status = say, status
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
        self.status.done()
        self.say(f"{name}: {self.seconds[name]:.1f} s")
