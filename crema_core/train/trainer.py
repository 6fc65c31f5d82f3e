"""The training loop, to be read from top to bottom.

For every epoch, for every group of minibatches: encode (or take features from the cache), update sense by sense, note
losses and gradient norms. At the end of an epoch: test early exit, evaluate, save.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from crema_core.data.dataset import SenseDataset
from crema_core.data.loader import load_batches
from crema_core.data.manifest import Record
from crema_core.data.order import cut, derive_seed, epoch_order
from crema_core.evaluate.run import evaluate
from crema_core.model.crema import CremaModel
from crema_core.model.precision import DTYPES
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins.hooks import Hooks
from crema_core.train.cache import FeatureCache
from crema_core.train.encode import cacheable, encode_batch, fill_cache
from crema_core.train.interrupt import InterruptGuard, TrainingInterrupted
from crema_core.train.metrics import MetricsFile
from crema_core.train.optim import make_optimizer, set_learning_rate
from crema_core.train.phases import Phases, training_order
from crema_core.train.progress import StatusLine, describe_duration
from crema_core.train.run import BEST, LAST, METRICS
from crema_core.train.schedule import Position, make_schedule
from crema_core.train.settings import TrainSettings
from crema_core.train.state import (
    Checkpoint,
    load_optimizer_state,
    load_random_state,
    optimizer_state,
    point,
    pointed,
    prune,
    random_state,
    read_checkpoint,
    write_checkpoint,
)
from crema_core.train.steps import Minibatch, Stepper, StepResult
from crema_core.train.sync import Sync


class Trainer:
    """One training run.

    Args:
        model: a built model; it is moved to the device accelerate chooses.
        records: training samples.
        valid: validation samples; empty for none.
        settings: of the run.
        folder: the run directory.
        hooks: told about events.
        status: where progress is shown.

    Attributes:
        step: updates done.
        best_score: best validation accuracy so far, or None.
    """

    def __init__(
        self,
        model: CremaModel,
        records: Sequence[Record],
        valid: Sequence[Record],
        settings: TrainSettings,
        *,
        folder: Path,
        hooks: Hooks,
        status: StatusLine,
    ) -> None:
        self.model, self.records, self.valid, self.settings = model, records, valid, settings
        self.folder, self.hooks, self.status = folder, hooks, status
        self.sync = Sync(precision=settings.precision, trackers=settings.trackers, folder=folder)
        model.to(self.sync.device)
        self.phases = Phases(
            training_order(model.names, settings.modalities),
            tau=settings.early_exit,
            start_epoch=settings.early_exit_start_epoch,
            value=settings.early_exit_value,
        )
        self.stepper = self._make_stepper()
        groups_per_epoch = len(cut(cut(range(len(records)), settings.batch_size), settings.accumulation))
        self.schedule = make_schedule(settings, steps_per_epoch=groups_per_epoch)
        self.num_steps = groups_per_epoch * settings.epochs
        self.metrics = MetricsFile(folder / METRICS)
        self.position = Position(0, 0, 0)
        self.best_score: float | None = None
        self.cache: FeatureCache | None = None
        self._sums: defaultdict[str, list[float]] = defaultdict(list)
        self._seconds = 0.0  # of updates in this process, for the speed shown
        self._samples = 0

    @property
    def step(self) -> int:
        """Updates done."""
        return self.position.step

    def train(self, *, resume_from: Path | None = None) -> None:
        """Train to the end, or until every sense has exited.

        Args:
            resume_from: checkpoint folder to go on from.

        Raises:
            TrainingError: when features do not fit into memory or the loss is not finite.
            TrainingInterrupted: after Ctrl-C, with everything saved.
        """
        before = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        cuda = [self.sync.device] if self.sync.device.type == "cuda" else []
        self.sync.start_trackers(self.settings.model_dump(mode="json"))
        self._fill_cache()
        try:
            # The caller's random state is not touched.
            with torch.random.fork_rng(devices=cuda), InterruptGuard(self.status.note) as guard:
                torch.manual_seed(derive_seed("train", self.settings.seed))
                if resume_from is not None:
                    self._load(resume_from)
                self.hooks.call("crema_train_started", trainer=self)
                while self.position.epoch < self.settings.epochs and self.phases.active:
                    self._train_epoch(guard)
                    self._end_epoch()
                    self._stop_if_asked(guard)
        finally:
            set_trainable(self.model, before)
            self.model.eval()
            self.status.done()
            self.sync.stop_trackers()
        best = pointed(self.folder, BEST)
        if self.settings.load_best and best is not None:
            self.model.load_adapter_state_dict(read_checkpoint(best).adapters)

    def _train_epoch(self, guard: InterruptGuard) -> None:
        self._select_trainable()
        self.model.train()
        update = self.stepper.sequential if self.settings.mode == "sequential" else self.stepper.joint
        started = time.monotonic()
        for group in self._groups():
            lr = self.schedule(self.position)
            set_learning_rate(self.stepper.optimizer, lr)
            result = update(group, self.phases.active)
            self.position = self.position._replace(
                step_in_epoch=self.position.step_in_epoch + 1, step=self.position.step + 1
            )
            self._seconds += time.monotonic() - started
            self._samples += sum(len(minibatch.batch) for minibatch in group)
            self._note(result, lr)
            self.hooks.call("crema_step_finished", trainer=self, step=self.step, losses=result.losses)
            if self.settings.checkpoint_every and self.step % self.settings.checkpoint_every == 0:
                self._save()
            self._stop_if_asked(guard)
            started = time.monotonic()

    def _groups(self) -> Iterator[list[Minibatch]]:
        """Yield what is left of the epoch, as encoded minibatches, as many at a time as make one update."""
        settings, epoch = self.settings, self.position.epoch
        order = epoch_order(len(self.records), seed=settings.seed, epoch=epoch)
        batches = cut(order, settings.batch_size)[self.position.step_in_epoch * settings.accumulation :]
        dataset = SenseDataset(
            self.records,
            {name: self.model.sense(name).modality for name in self.model.names},
            major=self.model.major,
            seed=settings.seed,
            dropout=settings.modality_dropout,
            drop_major=settings.modality_dropout_major,
            cached=self._cached,
        )
        keys = [[(epoch, index) for index in batch] for batch in batches]
        num_workers = 0 if self._cached.issuperset(self.model.names) else settings.num_workers
        group = []
        for batch in load_batches(dataset, keys, num_workers=num_workers, seed=derive_seed("loader", settings.seed, epoch)):
            with self.sync.forward_pass():
                group.append(Minibatch(batch, encode_batch(self.model, self.cache, batch)))
            if len(group) == settings.accumulation:
                yield group
                group = []
        if group:
            yield group

    def _note(self, result: StepResult, lr: float) -> None:
        """Record an update's numbers in early exit, the epoch's sums, the metrics file and the status line."""
        for name, norm in result.gradient_norms.items():
            self.phases.record(name, norm)
        for name, loss in result.losses.items():
            self._sums[f"loss/{name}"].append(loss)
        if not result.losses:
            return
        speed = self._samples / self._seconds
        loss = sum(result.losses.values()) / len(result.losses)
        values = {"loss": loss, "lr": lr, "samples_per_s": round(speed, 3)}
        values |= {f"loss/{name}": value for name, value in result.losses.items()}
        values |= {f"grad_norm/{name}": value for name, value in result.gradient_norms.items()}
        if self.step % self.settings.log_every == 0 or self.step == 1:
            self._write("step", values)
            self.sync.track(values, step=self.step)
        done = self.step - (self.num_steps - self._steps_here)
        left = (self.num_steps - self.step) * self._seconds / max(1, done)
        norms = " ".join(f"{name} {norm:.3g}" for name, norm in result.gradient_norms.items())
        self.status.show(
            f"epoch {self.position.epoch + 1}/{self.settings.epochs}  step {self.step:,}/{self.num_steps:,}  "
            f"loss {loss:.4f}  grad {norms}  {speed:.1f} samples/s  {describe_duration(left)} left"
        )

    def _end_epoch(self) -> None:
        epoch = self.position.epoch
        values = {name: sum(losses) / len(losses) for name, losses in self._sums.items()}
        if values:
            values["loss"] = sum(values.values()) / len(values)
        exits = self.phases.end_epoch(epoch)
        # The last value of a sense that took no part in this epoch is an older epoch's.
        updated = [name for name in self.phases.order if f"loss/{name}" in values or "loss/joint" in values]
        values |= {f"grad_norm/{name}": self.phases.history[name][-1] for name in updated if name in self.phases.history}
        self._write("epoch", values)
        for found in exits:
            self.status.note(str(found))
            self._write("exit", {"modality": found.modality, "value": found.value, "mean": found.mean, "tau": found.tau})
        if self.valid and (self._is_last_epoch or (epoch + 1) % self.settings.eval_every == 0):
            is_best = self._evaluate()
        else:
            is_best = False
        self._sums.clear()
        self.position = Position(epoch + 1, 0, self.step)
        self._save(best=is_best)

    @property
    def _is_last_epoch(self) -> bool:
        return self.position.epoch + 1 == self.settings.epochs or not self.phases.active

    def _evaluate(self) -> bool:
        """Evaluate; return whether the model was never better."""
        result = evaluate(
            self.model,
            self.valid,
            batch_size=self.settings.eval_batch_size,
            max_new_tokens=self.settings.max_new_tokens,
            num_workers=self.settings.num_workers,
            cache=self.cache,
            status=self.status,
        )
        values = {"accuracy": result.accuracy} | {f"accuracy/{kind}": own for kind, own in result.by_type.items()}
        self._write("valid", values)
        self.sync.track(values, step=self.step)
        self.hooks.call("crema_evaluated", trainer=self, metrics=values)
        self.status.note(f"epoch {self.position.epoch + 1}: validation accuracy {result.accuracy:.1%}")
        if self.best_score is not None and result.accuracy <= self.best_score:
            return False
        self.best_score = result.accuracy
        return True

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        self.metrics.write(kind, {"epoch": self.position.epoch, "step": self.step} | values)

    def _save(self, *, best: bool = False) -> None:
        name = f"epoch-{self.position.epoch:03d}-step-{self.step:06d}"
        state = {
            "position": list(self.position),
            "phases": self.phases.state_dict(),
            "sums": dict(self._sums),
            "best_score": self.best_score,
            "metrics_bytes": self.metrics.num_bytes,
            "senses": list(self.model.names),
        }
        folder = write_checkpoint(
            self.folder,
            name,
            Checkpoint(
                adapters=self.model.adapter_state_dict(),
                optimizer=optimizer_state(self.stepper.optimizer, self._parameters),
                random=random_state(self.sync.device),
                state=state,
            ),
        )
        point(self.folder, LAST, name)
        if best:
            point(self.folder, BEST, name)
        prune(self.folder, keep=[folder, pointed(self.folder, BEST)])
        self.hooks.call("crema_checkpoint_saved", path=folder, manifest=state)

    def _load(self, folder: Path) -> None:
        checkpoint = read_checkpoint(folder)
        self.model.load_adapter_state_dict(checkpoint.adapters)
        load_optimizer_state(self.stepper.optimizer, self._parameters, checkpoint.optimizer)
        load_random_state(self.sync.device, checkpoint.random)
        state = checkpoint.state
        self.position = Position(*state["position"])
        self.phases.load_state_dict(state["phases"])
        self._sums.update({name: list(values) for name, values in state["sums"].items()})
        self.best_score = state["best_score"]
        self._steps_here = self.num_steps - self.step
        self.metrics.truncate(state["metrics_bytes"])

    def _stop_if_asked(self, guard: InterruptGuard) -> None:
        if guard.requested:
            self._save()
            raise TrainingInterrupted(self.folder)

    def _fill_cache(self) -> None:
        self._steps_here = self.num_steps
        self._cached = frozenset[str]()
        if self.settings.cache == "none":
            return
        names = cacheable(self.model, self.model.names)
        dtype = DTYPES[self.settings.cache_precision] if self.settings.cache_precision != "fp32" else None
        self.cache = FeatureCache(self.model, dtype=dtype)
        self._cached = frozenset(names)
        with self.sync.forward_pass():
            fill_cache(
                self.cache,
                [*self.records, *self.valid],
                names=names,
                batch_size=self.settings.batch_size,
                num_workers=self.settings.num_workers,
                limit_bytes=self.settings.cache_limit_gb * 1e9,
                status=self.status,
            )

    def _make_stepper(self) -> Stepper:
        model, settings = self.model, self.settings
        trained = self.phases.order
        adapters = {name: model.adapter_parameters(name) for name in trained}
        # Blocks of senses that are not trained keep their weights, and so does what all senses share: otherwise answers
        # without the trained senses would change.
        fusion = model.fusion_parameters(None if trained == model.names else trained)
        measured = {
            name: list((model.lora_parameters(name) if settings.early_exit_metric == "lora" else own).values())
            for name, own in adapters.items()
        }
        self._parameters = {
            f"modalities.{name}.{key}": parameter for name, own in adapters.items() for key, parameter in own.items()
        } | {f"fusion.{key}": parameter for key, parameter in fusion.items()}
        optimizer = make_optimizer(
            self._parameters, lr=settings.lr, weight_decay=settings.weight_decay, betas=settings.betas
        )
        return Stepper(model, adapters, fusion, measured, optimizer, self.sync, settings.clip_norm)

    def _select_trainable(self) -> None:
        """Let gradients flow into the senses that still train, and the fusion; into nothing else."""
        active = [parameter for name in self.phases.active for parameter in self.stepper.adapters[name].values()]
        set_trainable(self.model, names_of(self.model, [*active, *self.stepper.fusion.values()]))
