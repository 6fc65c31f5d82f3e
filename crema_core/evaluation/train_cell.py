"""One cell of a table of trainings: train a model, ask it, keep what was measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.data.manifest import Record
from crema_core.evaluation.cells import Measured
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_core.train.metrics import METRICS, read_metrics
from crema_core.train.run import BEST, CHECKPOINTS, CONFIG, LAST
from crema_core.train.settings import NOT_A_FOLDER, train_settings

MODEL = "model"


def train_cell(
    build_model: Callable[[], CremaModel],
    train: Sequence[Record],
    test: Sequence[Record],
    *,
    folder: Path,
    settings: Mapping[str, Any],
    batch_size: int = 32,
    max_new_tokens: int = 10,
    keep_model: bool = True,
    status: StatusLine | None = None,
) -> Measured:
    """Train a model and evaluate it on held-out questions.

    A training that was interrupted in this folder goes on from its last checkpoint. Of a finished one the run's metrics
    stay; its checkpoints are deleted, because nothing continues it.

    Args:
        build_model: returns the model to train, the same one at every call.
        train, test: samples.
        folder: run directory.
        settings: of training, the seed included.
        batch_size: questions per pass of the evaluation.
        max_new_tokens: longest open-ended answer.
        keep_model: save the trained model too.
        status: where progress is shown.
    """
    model = build_model()
    again = (folder / CONFIG).is_file()
    started = time.monotonic()
    run = fit(model, train, out=folder, resume=again, status=status, **({} if again else settings))
    duration_s = None if again else time.monotonic() - started
    cache = train_settings(None, dict(settings)).cache
    result = evaluate(
        model,
        test,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        measures=(),
        cache=None if cache in NOT_A_FOLDER else cache,
        status=status,
        announce=False,
    )
    if keep_model:
        model.save_pretrained(folder / MODEL)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for pointer in (LAST, BEST):
        (folder / pointer).unlink(missing_ok=True)
    exits = [line for line in read_metrics(folder / METRICS) if line["kind"] == "exit"]
    return Measured(
        accuracy=result.accuracy,
        by_type=result.by_type,
        trainable=sum(parameter.numel() for parameter in model.trainable_parameters().values()),
        tokens_per_answer=result.tokens_per_answer,
        num_steps=run.num_steps,
        duration_s=duration_s,
        exited={str(line["modality"]): int(line["epoch"]) for line in exits},
    )
