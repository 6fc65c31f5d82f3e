"""The training loop, to be read from top to bottom.

For every epoch, for every group of minibatches: encode (or take features from the cache), update modality by modality,
note losses and gradient norms. At the end of an epoch: test early exit, evaluate, save. With several processes each
runs this same loop on its part of every minibatch; all numbers that decide anything are those of all of them.
"""

from __future__ import annotations

import copy
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.common.stopping import SIGNALS, Terminated, cause, handled, stop_for
from crema_core.data.data_file import Record, Samples
from crema_core.data.dataset import Key, ModalityDataset, load_batches
from crema_core.data.order import cut, derive_seed, epoch_order
from crema_core.data.unusable import SKIPPED, Unusable, summary
from crema_core.errors import OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.features.cache.store import DiskCache
from crema_core.features.encode import cacheable, encode_for_training, fill_shared, read_ahead, why_not_kept
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.readable import find_unreadable
from crema_core.features.window import Window
from crema_core.model.allocator import retain_freed_memory
from crema_core.model.kernels import activation_checkpointing, compiled
from crema_core.model.memory import explain_out_of_memory
from crema_core.model.network import CremaNetwork
from crema_core.model.precision import DTYPES, float32_products
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins.hooks import Hooks
from crema_core.saving.fingerprint import feature_fingerprint
from crema_core.saving.upgrades import FEATURES
from crema_core.train.checkpoints import Checkpointer, pointed, read_checkpoint
from crema_core.train.distributed import Distributed
from crema_core.train.early_exit import EarlyExit, exit_start_epoch
from crema_core.train.events import TrainEvents
from crema_core.train.metrics import MetricLogger
from crema_core.train.optim import Position, make_schedule, set_learning_rate
from crema_core.train.run import BEST, LAST
from crema_core.train.settings import TrainSettings, less_memory
from crema_core.train.steps import Minibatch, Stepper, modalities_to_train, share_language_model


class Readable(NamedTuple):
    """Samples of which those are left out that cannot be read, see `crema_core.features.readable`."""

    samples: Mapping[str, Samples]  # "data" and, where there is any, "eval_data"
    known: bool  # an earlier part of the run has found them all; they are the unusable ones


class Trainer:
    """One training run.

    Args:
        model: a built model; it is moved to the device accelerate chooses.
        records: training samples.
        eval_data: validation samples; empty for none.
        settings: of the run.
        folder: the run directory.
        hooks: called in the main process, see `crema_core.train.events`.
        status: where progress is shown.
        readable: the samples that `records` and `eval_data` are the usable ones of: every source is read once before
            training, and what cannot be read is left out. None: nothing is left out.

    Raises:
        DataFileError: with `readable`, when more samples cannot be read than may be left out.
        OptionsError: when there are more processes than samples in a minibatch, or none to share a language model with.
    """

    def __init__(
        self,
        model: CremaModel,
        records: Sequence[Record],
        eval_data: Sequence[Record],
        settings: TrainSettings,
        *,
        folder: Path,
        hooks: Hooks,
        status: StatusLine,
        readable: Readable | None = None,
    ) -> None:
        model.backbone.require_weights()
        self.model, self.records, self.eval_data, self.settings = model, records, eval_data, settings
        self.folder, self.status = folder, status
        self.distributed = Distributed(precision=settings.precision, trackers=settings.trackers, folder=folder)
        self.processes = self.distributed.processes
        if settings.batch_size < self.processes.count:
            raise OptionsError(
                f"batch_size={settings.batch_size} is the whole minibatch, which {self.processes.count} processes "
                "share. Each needs at least one sample. Raise batch_size, or start fewer processes."
            )
        if settings.shard_language_model:
            share_language_model(model, self.distributed)
        model.to(self.distributed.device)
        self.cache: FeatureCache | None = None
        self._cached: frozenset[str] = frozenset()
        self.skipped: dict[str, list[Unusable]] = {}  # samples left out, by "data" and "eval_data"
        self._filled = readable is not None
        if readable is not None:
            self._leave_out(readable)
        self.early_exit = EarlyExit(
            modalities_to_train(model, settings),
            tau=settings.early_exit,
            start_epoch=exit_start_epoch(settings),
            value=settings.early_exit_value,
            reference=settings.early_exit_reference,
            patience=settings.early_exit_patience,
            loss_drop=settings.early_exit_loss_drop,
        )
        self.events = TrainEvents(hooks, self, step=lambda: self.step, distributed=self.distributed)
        self.stepper = Stepper(
            model, settings, trained=self.early_exit.order, distributed=self.distributed, events=self.events
        )
        self.stepper.recovery = self._recovery
        self.distributed.start_equal(self.stepper.parameters.values())
        self.checkpointer = Checkpointer(folder, self.stepper)
        steps_per_epoch = math.ceil(
            math.ceil(len(self.records) / settings.batch_size) / settings.gradient_accumulation_steps
        )
        self.schedule = make_schedule(settings, steps_per_epoch=steps_per_epoch)
        self.position = Position(0, 0, 0)
        self._seen: list[int] = []  # signals that came; filled while `train` runs
        self.lr_factor = 1.0  # what hooks multiply the schedule's rate with, in all processes
        self.stopped: str | None = None  # which plugin ended the run, when and why
        self.best_score: float | None = None  # best validation accuracy so far, or None
        num_steps = steps_per_epoch * settings.epochs
        self.metric_logger = MetricLogger(
            folder, settings, num_steps=num_steps, distributed=self.distributed, status=status
        )

    @property
    def step(self) -> int:
        """Updates done."""
        return self.position.step

    @retain_freed_memory()
    def train(self, *, resume_from: Path | None = None, changes: Sequence[Mapping[str, Any]] = ()) -> None:
        """Train to the end, until every modality has exited, or until a hook stops the run.

        Args:
            resume_from: checkpoint folder to continue from.
            changes: settings that were changed when the run was continued, as `config.json` records them.

        Raises:
            TrainingError: when features do not fit into memory or the loss is not finite.
            OutOfMemoryError: when a minibatch does not fit.
            TrainingInterrupted: after Ctrl-C or SIGTERM, with everything saved.
            HookError: when a hook changed a tensor it was given to read, or failed with `CREMA_PLUGINS_STRICT=1`.
        """
        before = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        backbone = self.model.backbone
        cuda = [self.distributed.device] if self.distributed.device.type == "cuda" else []
        self.distributed.accelerator.init_trackers("crema", config=self.settings.model_dump(mode="json"))
        exactness = self.settings.float32_matmul
        with float32_products(exactness):
            self._fill_cache()
        try:
            # The caller's random state is not touched.
            with (
                torch.random.fork_rng(devices=cuda),
                float32_products(exactness),
                activation_checkpointing(backbone.language_model, enabled=self.settings.gradient_checkpointing),
                compiled((backbone.vision_model, backbone.language_model), enabled=self.settings.compile_frozen),
                interruptible(self.status.note) as self._seen,
                explain_out_of_memory(f"A minibatch of {self.settings.batch_size} samples", less_memory(self.settings)),
            ):
                self.checkpointer.seed_dropout(self.position)
                if resume_from is not None:
                    self._load(resume_from)
                elif self._filled:
                    self.metric_logger.skipped(self.position, {name: len(own) for name, own in self.skipped.items()})
                for change in changes:
                    if change["step"] >= self.step:  # the line of an earlier one is there
                        self.metric_logger.setting(self.position, change)
                self.events.tell("crema_train_started")
                self._take_changes()
                while self.position.epoch < self.settings.epochs and self.early_exit.active and not self.stopped:
                    self._train_epoch()
                    if not self.stopped:  # else the position is inside the epoch, from where the run can continue
                        self._end_epoch()
                    self._stop_if_asked()
                if self.stopped:
                    self._save()
        finally:
            set_trainable(self.model, before)
            self.model.eval()
            self.status.done()
            self.distributed.stop_trackers()
        best = pointed(self.folder, BEST)
        if self.settings.load_best and best is not None:
            self.model.load_adapter_state_dict(read_checkpoint(best).adapters)

    def _train_epoch(self) -> None:
        self._select_trainable()
        self.model.train()
        update = self.stepper.sequential if self.settings.mode == "sequential" else self.stepper.joint
        for group in self._groups():
            lr = self.schedule(self.position) * self.lr_factor
            set_learning_rate(self.stepper.optimizer, lr)
            result = update(group, self.early_exit.active)
            epoch, step_in_epoch, step = self.position
            self.position = Position(epoch, step_in_epoch + 1, step + 1)
            for name, norm in result.gradient_norms.items():
                self.early_exit.record(name, norm, result.losses["joint" if self.settings.mode == "joint" else name])
            self.metric_logger.update(result, self.position, lr=lr)
            self.events.tell("crema_step_finished", step=self.step, losses=result.losses)
            self._take_changes()
            if self.settings.checkpoint_every and self.step % self.settings.checkpoint_every == 0:
                self._save()
            self._stop_if_asked()
            if self.stopped:
                return

    def _groups(self) -> Iterator[list[Minibatch]]:
        """Yield this process's part of what is left of the epoch: encoded minibatches, as many as make one update."""
        settings, epoch = self.settings, self.position.epoch
        order = epoch_order(len(self.records), seed=settings.seed, epoch=epoch)
        batches = cut(order, settings.batch_size)[self.position.step_in_epoch * settings.gradient_accumulation_steps :]
        dataset = ModalityDataset(
            self.records,
            {name: self.model.branch(name).modality for name in self.model.names},
            major=self.model.major,
            seed=settings.seed,
            dropout=settings.modality_dropout,
            drop_major=settings.modality_dropout_major,
            cached=self._cached,
        )
        keys = [[Key(epoch, index) for index in self.processes.shard(batch)] for batch in batches]
        # Not beyond a minibatch: a run that continues at any of them computes what it would have.
        window = Window(() if self.cache else cacheable(self.model, self.model.names), num_sources=0)
        num_workers = 0 if self._cached.issuperset(self.model.names) else settings.num_workers
        group: list[Minibatch] = []
        seed = derive_seed("loader", settings.seed, epoch)
        prepared = load_batches(dataset, window.plan(dataset, keys), num_workers=num_workers, seed=seed)
        for batch in read_ahead(prepared, self.cache):
            with self.distributed.forward_pass():
                group.append(Minibatch(batch, encode_for_training(self.model, self.cache, batch, window)))
            if len(group) == settings.gradient_accumulation_steps:
                yield group
                group = []
        if group:
            yield group

    def _end_epoch(self) -> None:
        at = self.position
        self.stepper.require_finite({})
        before = self._numbers()
        exits = self.early_exit.end_epoch(at.epoch)
        self.metric_logger.epoch(
            at,
            norms=self.early_exit.last_epoch,
            thresholds=self.early_exit.thresholds,
            held=self.early_exit.held,
            exits=exits,
        )
        is_last = at.epoch + 1 == self.settings.epochs or not self.early_exit.active
        due = is_last or (at.epoch + 1) % self.settings.eval_every == 0
        is_best = self._evaluate(before) if self.eval_data and due else False
        self.position = Position(at.epoch + 1, 0, at.step)
        self._save(best=is_best)

    def _evaluate(self, before: Mapping[str, Any]) -> bool:
        """Evaluate; return whether the model was never better. `before` is saved when somebody stops it."""
        with self.distributed.forward_pass():
            result = evaluate(
                self.model,
                self.eval_data,
                batch_size=self.settings.eval_batch_size,
                max_new_tokens=self.settings.max_new_tokens,
                num_workers=self.settings.num_workers,
                cache=self.cache,
                status=self.status,
                announce=False,
                measures=(),  # an epoch must not end for want of a package that only measures need
                processes=self.processes,
                before_batch=lambda: self._stop_if_asked(before),
            )
        self.metric_logger.evaluation(self.position, result.metrics)
        self.events.tell("crema_evaluated", metrics=result.metrics)
        self._take_changes()
        if self.best_score is not None and result.accuracy <= self.best_score:
            return False
        self.best_score = result.accuracy
        return True

    def _numbers(self) -> dict[str, Any]:
        """Return what changes from update to update and at the end of an epoch, as JSON data."""
        return copy.deepcopy({"early_exit": self.early_exit.state_dict(), "metrics": self.metric_logger.state_dict()})

    def _save(self, numbers: Mapping[str, Any] | None = None, *, best: bool = False) -> None:
        """Write a checkpoint of this moment; with earlier `numbers`, one that does the end of the epoch again."""
        progress = {
            **(self._numbers() if numbers is None else numbers),
            "best_score": self.best_score,
            "modalities": list(self.model.names),
            "hooks": self.events.state_dict(),
            **self._features(),
        }
        folder = self.checkpointer.save(self.position, progress, best=best)
        if folder is not None:
            config = {"position": list(self.position), **progress}
            self.events.tell("crema_checkpoint_saved", path=folder, config=config)

    def _recovery(self) -> str:
        """Return what to do when numbers are not finite, for messages."""
        lr, last = f"lr={self.settings.lr / 10:.3g}", pointed(self.folder, LAST)
        others = "" if self.settings.max_grad_norm is not None else ", max_grad_norm=1.0"
        others += "" if self.settings.precision == "fp32" else ', precision="fp32"'
        instead = f" Instead of a lower lr, try{others.removeprefix(',')}." if others else ""
        if last is None:
            return f"There is no checkpoint yet. Begin again with a lower rate, for example {lr}.{instead}"
        return (
            f"The last checkpoint, {last.name}, is finite. Continue from it with a lower rate: crema resume "
            f"{self.folder} --set {lr}, in Python fit(..., resume=True, {lr}).{instead}"
        )

    def _features(self) -> dict[str, Any]:
        """Return fingerprints of what trainable encoders make of their examples now; nothing without any.

        Those of frozen encoders are in the run's `config.json`.
        """
        names = [name for name in self.model.names if self.model.branch(name).modality.trainable]
        if not names or not self.processes.is_main:
            return {}
        return {FEATURES: {name: feature_fingerprint(self.model.branch(name).modality) for name in names}}

    def _load(self, folder: Path) -> None:
        state = self.checkpointer.load(folder)
        self.position = Position(*state["position"])
        self.early_exit.load_state_dict(state["early_exit"])
        self.metric_logger.load_state_dict(state["metrics"])
        self.best_score = state["best_score"]
        for absent in self.events.load_state_dict(state.get("hooks", {})):  # earlier checkpoints do not have it
            self.status.note(
                f"The learning rate stays multiplied by {absent.lr_factor:g}, as {absent.by} has set it; its hooks are "
                "not loaded now."
            )
        self.lr_factor = self.events.controls.lr_factor
        if state["processes"] != self.processes.count:
            self.status.note(
                f"processes: {state['processes']} -> {self.processes.count}: dropout draws other numbers from here on; "
                "without dropout nothing changes."
            )

    def _stop_if_asked(self, numbers: Mapping[str, Any] | None = None) -> None:
        """Save and stop when a signal has come to one of the processes; `numbers` as for `_save`."""
        interrupted, terminated = self.processes.sum([self._seen.count(one) for one in SIGNALS])
        if interrupted or terminated:
            self._save(numbers)
            raise (TrainingTerminated if terminated else TrainingInterrupted)(self.folder)

    def _take_changes(self) -> None:
        """Take over, in all processes, what hooks have asked for since the last time."""
        changes, self.lr_factor = self.events.take_changes()
        for change in changes:
            text = self.metric_logger.hook_change(change, self.position, lr_factor=self.lr_factor)
            if change.kind == "stop" and self.stopped is None:
                self.stopped = text

    def _leave_out(self, readable: Readable) -> None:
        """Read every source once, into the cache where there is one, and leave out what cannot be read."""
        self.cache = make_cache(self.model, self.settings)
        if self.cache is not None:
            self._cached = frozenset(cacheable(self.model, self.model.names))
            if (skipped := why_not_kept(self.model, self.model.names)) is not None:
                self.status.note(skipped)
        before = list(readable.samples.values())
        # What names and sizes tell was known before the first pass, too.
        cheap = [own._replace(unusable=[one for one in own.unusable if one.why != "unreadable"]) for own in before]
        with self.distributed.forward_pass():
            found = find_unreadable(
                self.model,
                cheap,
                self.model.names,
                cache=self.cache,
                known=before if readable.known else None,
                batch_size=self.settings.batch_size,
                num_workers=self.settings.num_workers,
                processes=self.processes,
                status=self.status,
                max_skipped=self.settings.max_skipped,
            )
        samples = dict(zip(readable.samples, found, strict=True))
        self.records = samples["data"].usable
        self.eval_data = samples["eval_data"].usable if "eval_data" in samples else []
        self.skipped = {name: own.unusable for name, own in samples.items()}
        for own in found:
            if own.unusable:
                self.status.note(f"{summary(own)} They are left out, and listed in {self.folder / SKIPPED}.")

    def _fill_cache(self) -> None:
        if self._filled:
            return
        self.cache = make_cache(self.model, self.settings)
        if self.cache is None:
            return
        names = cacheable(self.model, self.model.names)
        self._cached = frozenset(names)
        if (skipped := why_not_kept(self.model, self.model.names)) is not None:
            self.status.note(skipped)
        with self.distributed.forward_pass():
            filled = fill_shared(
                self.cache,
                [*self.records, *self.eval_data],
                names=names,
                batch_size=self.settings.batch_size,
                processes=self.processes,
                num_workers=self.settings.num_workers,
                status=self.status,
            )
        if self.cache.disk is not None:
            self.status.note(str(filled))

    def _select_trainable(self) -> None:
        """Let gradients flow into the modalities that still train, and the fusion; into nothing else."""
        active = [parameter for name in self.early_exit.active for parameter in self.stepper.adapters[name].values()]
        set_trainable(self.model, names_of(self.model, [*active, *self.stepper.shared.values()]))


def make_cache(model: CremaNetwork, settings: TrainSettings) -> FeatureCache | None:
    """Return the cache that the settings of a training run ask for, or None.

    Raises:
        CacheError: when the folder they name cannot be a cache.
    """
    if settings.cache == "none":
        return None
    dtype = DTYPES[settings.cache_precision] if settings.cache_precision != "fp32" else None
    disk = None
    if settings.cache != "memory":
        limit_gb = settings.cache_disk_limit_gb
        disk = DiskCache(settings.cache, limit_bytes=float("inf") if limit_gb is None else limit_gb * 1e9)
    return FeatureCache(model, dtype=dtype, limit_bytes=settings.cache_limit_gb * 1e9, disk=disk)


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted and its state is saved; a command line exits with 130."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # the run directory to resume
        super().__init__(
            f"{cause(self).capitalize()}; everything is saved in '{folder}'. Continue with resume=True and "
            f"out='{folder}'."
        )


class TrainingTerminated(TrainingInterrupted, Terminated):
    """The same after SIGTERM; a command line exits with 143."""


@contextmanager
def interruptible(announce: Callable[[str], None]) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM inside the block be noted in the list that is yielded.

    One more Ctrl-C stops at once; one more SIGTERM does not, because schedulers send it to a process both by themselves
    and through its launcher. Outside the main thread Python delivers no signals, and nothing is noted.

    Args:
        announce: called with a sentence at the first one.
    """
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            what = cause(stop_for(number)).capitalize()
            announce(f"{what}: finishing this update, then saving. Press Ctrl-C again to stop without saving.")
        elif number == signal.SIGINT:
            raise stop_for(number)

    with handled(handle, only_default=False):
        yield seen
