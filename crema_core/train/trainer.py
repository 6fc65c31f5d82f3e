"""The training loop, to be read from top to bottom.

For every epoch, for every group of minibatches: encode (or take features from the cache), update sense by sense, note
losses and gradient norms. At the end of an epoch: test early exit, evaluate, save.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from crema_core.data.dataset import SenseDataset
from crema_core.data.loader import load_batches
from crema_core.data.manifest import Record
from crema_core.data.order import cut, derive_seed, epoch_order
from crema_core.evaluation.run import evaluate
from crema_core.model.crema import CremaModel
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins.hooks import Hooks
from crema_core.train.cache import FeatureCache, make_cache
from crema_core.train.encode import cacheable, encode_batch, fill_cache, read_ahead
from crema_core.train.interrupt import InterruptGuard, TrainingInterrupted
from crema_core.train.journal import Journal
from crema_core.train.optim import set_learning_rate
from crema_core.train.parts import make_stepper
from crema_core.train.phases import Phases, training_order
from crema_core.train.progress import StatusLine
from crema_core.train.run import BEST, LAST
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
from crema_core.train.steps import Minibatch
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
        model.backbone.require_weights()
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
        self.stepper = make_stepper(model, settings, trained=self.phases.order, sync=self.sync)
        steps_per_epoch = math.ceil(math.ceil(len(records) / settings.batch_size) / settings.accumulation)
        self.schedule = make_schedule(settings, steps_per_epoch=steps_per_epoch)
        self.position = Position(0, 0, 0)
        self.best_score: float | None = None
        self.cache: FeatureCache | None = None
        self._cached: frozenset[str] = frozenset()
        self.journal = Journal(
            folder,
            sync=self.sync,
            status=status,
            num_epochs=settings.epochs,
            num_steps=steps_per_epoch * settings.epochs,
            log_every=settings.log_every,
        )

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
        for group in self._groups():
            lr = self.schedule(self.position)
            set_learning_rate(self.stepper.optimizer, lr)
            result = update(group, self.phases.active)
            epoch, step_in_epoch, step = self.position
            self.position = Position(epoch, step_in_epoch + 1, step + 1)
            for name, norm in result.gradient_norms.items():
                self.phases.record(name, norm)
            self.journal.update(result, self.position, lr=lr, num_samples=sum(len(one.batch) for one in group))
            self.hooks.call("crema_step_finished", trainer=self, step=self.step, losses=result.losses)
            if self.settings.checkpoint_every and self.step % self.settings.checkpoint_every == 0:
                self._save()
            self._stop_if_asked(guard)

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
        group: list[Minibatch] = []
        seed = derive_seed("loader", settings.seed, epoch)
        prepared = load_batches(dataset, keys, num_workers=num_workers, seed=seed)
        for batch in read_ahead(prepared, self.cache):
            with self.sync.forward_pass():
                group.append(Minibatch(batch, encode_batch(self.model, self.cache, batch)))
            if len(group) == settings.accumulation:
                yield group
                group = []
        if group:
            yield group

    def _end_epoch(self) -> None:
        at = self.position
        exits = self.phases.end_epoch(at.epoch)
        self.journal.epoch(at, norms=self.phases.last_epoch, exits=exits)
        is_last = at.epoch + 1 == self.settings.epochs or not self.phases.active
        due = is_last or (at.epoch + 1) % self.settings.eval_every == 0
        is_best = self._evaluate() if self.valid and due else False
        self.position = Position(at.epoch + 1, 0, at.step)
        self._save(best=is_best)

    def _evaluate(self) -> bool:
        """Evaluate; return whether the model was never better."""
        with self.sync.forward_pass():
            result = evaluate(
                self.model,
                self.valid,
                batch_size=self.settings.eval_batch_size,
                max_new_tokens=self.settings.max_new_tokens,
                num_workers=self.settings.num_workers,
                cache=self.cache,
                status=self.status,
                announce=False,
                measures=(),  # an epoch must not end for want of a package that only measures need
            )
        self.journal.evaluation(self.position, result.metrics)
        self.hooks.call("crema_evaluated", trainer=self, metrics=result.metrics)
        if self.best_score is not None and result.accuracy <= self.best_score:
            return False
        self.best_score = result.accuracy
        return True

    def _save(self, *, best: bool = False) -> None:
        name = f"epoch-{self.position.epoch:03d}-step-{self.step:06d}"
        state = {
            "position": list(self.position),
            "phases": self.phases.state_dict(),
            "journal": self.journal.state_dict(),
            "best_score": self.best_score,
            "senses": list(self.model.names),
        }
        folder = write_checkpoint(
            self.folder,
            name,
            Checkpoint(
                adapters=self.model.adapter_state_dict(),
                optimizer=optimizer_state(self.stepper.optimizer, self.stepper.parameters),
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
        load_optimizer_state(self.stepper.optimizer, self.stepper.parameters, checkpoint.optimizer)
        load_random_state(self.sync.device, checkpoint.random)
        state = checkpoint.state
        self.position = Position(*state["position"])
        self.phases.load_state_dict(state["phases"])
        self.journal.load_state_dict(state["journal"])
        self.best_score = state["best_score"]

    def _stop_if_asked(self, guard: InterruptGuard) -> None:
        if guard.requested:
            self._save()
            raise TrainingInterrupted(self.folder)

    def _fill_cache(self) -> None:
        self.cache = make_cache(self.model, self.settings)
        if self.cache is None:
            return
        names = cacheable(self.model, self.model.names)
        self._cached = frozenset(names)
        with self.sync.forward_pass():
            filled = fill_cache(
                self.cache,
                [*self.records, *self.valid],
                names=names,
                batch_size=self.settings.batch_size,
                num_workers=self.settings.num_workers,
                status=self.status,
            )
        if self.cache.disk is not None:
            self.status.note(str(filled))

    def _select_trainable(self) -> None:
        """Let gradients flow into the senses that still train, and the fusion; into nothing else."""
        active = [parameter for name in self.phases.active for parameter in self.stepper.adapters[name].values()]
        set_trainable(self.model, names_of(self.model, [*active, *self.stepper.fusion.values()]))
