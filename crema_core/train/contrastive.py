"""Pretraining one trainable encoder on unlabelled pairs: recordings of one event by a new sensor and by a known one.

The known modality's encoder is frozen and understands its sources already. The new one learns to say which of a batch's
known sources belongs to which of its own: InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, equation 4) in both
directions, with a learned temperature, as CLIP trains two encoders (Radford et al. 2021, arXiv:2103.00020, figure 3).
No label is needed, and no language model runs. Captions are the other way: `crema fit --preset pretrain` on questions
of that modality alone trains its encoder with its adapter.

Both sides are the mean of a source's real features, projected to one width. The projections are training's own: what
stays is the encoder, in the model.

Shape letters: B pairs of a batch, T steps, N tokens of a step, D feature width, P common width.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from crema_core.api.model import CremaModel
from crema_core.common.processes import ALONE
from crema_core.common.progress import StatusLine
from crema_core.common.tensors import not_finite
from crema_core.data.data_file import Data, Record, read_pairs
from crema_core.data.dataset import Key, ModalityDataset, load_batches
from crema_core.data.order import cut, derive_seed, epoch_order
from crema_core.errors import CheckpointError, OptionsError, TrainingError
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins.spec import parse_settings
from crema_core.saving.fingerprint import feature_changes, feature_fingerprint
from crema_core.tokens import ModalityFeatures
from crema_core.train.checkpoints import (
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
from crema_core.train.distributed import Distributed, join_processes
from crema_core.train.metrics import METRICS, MetricsFile, Value, read_metrics
from crema_core.train.optim import Position, make_optimizer, make_schedule, set_learning_rate
from crema_core.train.run import (
    CONFIG,
    LAST,
    data_digest,
    only_writer,
    read_config,
    record_changes,
    refuse_used,
    run_folder,
    write_start,
)
from crema_core.train.settings import CHANGEABLE, RESUMABLE, train_settings

MAX_SCALE = 100.0
"""Largest inverse temperature, as in CLIP (section 2.5)."""
_SHARED = ("epochs", "batch_size", "lr", "min_lr", "warmup_ratio", "weight_decay", "max_grad_norm", "precision", "seed")


class PretrainSettings(BaseModel):
    """Settings of a pretraining."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=20, ge=1, description="passes over the pairs")
    batch_size: int = Field(default=64, ge=2, description="pairs told apart at once: more make a harder, better task")
    lr: float = Field(default=1e-3, gt=0, description="highest learning rate")
    min_lr: float = Field(default=0.0, ge=0, description="learning rate at the end of the cosine")
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="part of all steps that warms up")
    weight_decay: float = Field(default=0.05, ge=0, description="of matrices; norms and biases have none")
    max_grad_norm: float | None = Field(default=1.0, gt=0, description="largest gradient norm of an update; None: any")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="number format of the forward pass")
    projection_dim: int = Field(default=128, ge=1, description="common width of both projections")
    temperature: float = Field(default=0.07, gt=0, description="at the start; it is learned, at least 0.01")
    num_workers: int = Field(default=0, ge=0, description="processes that read media")
    seed: int = Field(default=0, ge=0, description="of order, projections and dropout")


CHANGEABLE_HERE = CHANGEABLE & PretrainSettings.model_fields.keys()
"""Settings that may be changed when a pretraining is continued, if they are named."""


@dataclass(frozen=True)
class Pretraining:
    """A finished pretraining.

    Attributes:
        path: the run directory.
        metrics: one line per epoch: loss, accuracy (part of the sources whose own partner is the nearest of the batch,
            both directions), chance (the same of a guess), seconds.
    """

    path: Path
    metrics: tuple[dict[str, Value], ...]


def pretrain(
    model: CremaModel,
    data: Data,
    *,
    modality: str,
    against: str,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    status: StatusLine | None = None,
    **settings: object,
) -> Pretraining:
    """Train a modality's encoder to tell apart what goes with which source of a frozen modality; nothing else changes.

    Args:
        model: a built model with both modalities; it ends with the trained encoder.
        data: a data file of pairs, or mappings: lines with both modalities' keys. `id`, `question` and `answer` may be
            absent. Lines that lack one of the two are left out.
        modality: whose encoder is trained; its spec declares `trainable=True`.
        against: the frozen modality.
        out: the run directory; None: a new one below `runs/`.
        resume: continue the run in `out` after its last finished epoch. Its settings are taken from its `config.json`;
            those in `CHANGEABLE_HERE`, such as lr, may be given to change them from here on, which `config.json`
            records, and `num_workers`, which changes no number.
        status: where progress is shown; None: standard error.
        settings: fields of `PretrainSettings`.

    Raises:
        OptionsError: for a setting or a modality that does not fit.
        DataFileError: for unusable data, and fewer than two pairs.
        TrainingError: when loss, gradient or weights are not finite, another process trains there, or a
            run is there already.
        CheckpointError: when a run to continue differs from this one.

    Example:
        >>> pretrain(model, "pairs.jsonl", modality="eeg", against="video")    # doctest: +SKIP
    """
    parse_settings(PretrainSettings, dict(settings), title="pretrain")
    _require_roles(model, modality, against)
    status = status or StatusLine()
    with run_folder(out, ALONE) as folder, only_writer(folder, ALONE, status.note):
        return _pretrain(model, data, settings, modality, against, folder, resume=resume, status=status)


def _pretrain(
    model: CremaModel,
    data: Data,
    settings: Mapping[str, object],
    modality: str,
    against: str,
    folder: Path,
    *,
    resume: bool,
    status: StatusLine,
) -> Pretraining:
    """Train in a run directory that belongs to this process."""
    saved = read_config(folder, of_pairs=True) if resume else None
    chosen = parse_settings(PretrainSettings, {**_settings_of(folder, saved), **settings}, title="pretrain")
    model.backbone.require_weights()
    records = read_pairs(data, (modality, against))
    config: dict[str, Any] = {
        "format": 1,
        "settings": chosen.model_dump(mode="json"),
        "modality": modality,
        "against": against,
        "data": data_digest(records),
        "model": model.config,
        "features": {against: feature_fingerprint(model.branch(against).modality)},
    }
    if saved is not None:
        named = CHANGEABLE_HERE & settings.keys()
        _refuse_changes(saved, config, free=named | RESUMABLE)
        checkpoint = pointed(folder, LAST)
        step = 0 if checkpoint is None else int(read_checkpoint(checkpoint).state["position"][2])
        for change in record_changes(folder, config["settings"], named, step=step, of_pairs=True):
            if change["step"] == step:
                status.note(f"{change['setting']}: {change['was']} -> {change['now']}, from update {step + 1:,} on")
    else:
        refuse_used(folder)
        write_start(folder, config)
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    training = _Training(model, records, chosen, modality=modality, against=against, folder=folder, status=status)
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            training.run(pointed(folder, LAST) if resume else None)
    finally:
        set_trainable(model, before)
        model.eval()
        status.done()
    return Pretraining(folder, tuple(read_metrics(folder / METRICS)))


def info_nce(own_BP: Tensor, other_BP: Tensor, *, scale: Tensor, same_BB: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss (scalar) of telling pairs apart, and how many of the 2 B choices were right (scalar).

    Args:
        own_BP, other_BP: one row per pair, of length 1.
        scale: inverse temperature (scalar).
        same_BB: bool, pairs whose other source is the same one: they are no counterexamples of each other.

    Example:
        >>> rows, alone = torch.eye(2), torch.eye(2, dtype=torch.bool)
        >>> loss, right = info_nce(rows, rows, scale=torch.tensor(100.0), same_BB=alone)
        >>> round(float(loss), 6), int(right)
        (0.0, 4)
    """
    logits_BB = scale * own_BP @ other_BP.T
    target_B = torch.arange(len(own_BP), device=own_BP.device)
    logits_BB = logits_BB.masked_fill(same_BB & ~torch.eye(len(own_BP), dtype=torch.bool, device=own_BP.device), -1e9)
    loss = (functional.cross_entropy(logits_BB, target_B) + functional.cross_entropy(logits_BB.T, target_B)) / 2
    right = (logits_BB.argmax(1) == target_B).sum() + (logits_BB.argmax(0) == target_B).sum()
    return loss, right


def pooled(features: ModalityFeatures) -> Tensor:
    """Return the mean of each source's real features: `(R, T, N, D)` -> `(R, D)`."""
    values, mask, *_ = features.features
    real_RTN = (mask if mask.dim() == 3 else mask[:, :, None].expand(-1, -1, values.shape[2])).to(values)
    mean_RD: Tensor = (values * real_RTN[..., None]).sum((1, 2)) / real_RTN.sum((1, 2))[:, None]
    return mean_RD


class _Heads(nn.Module):
    """The two projections `(B, D) -> (B, P)` and the temperature.

    Args:
        own_dim, other_dim: widths of the features.
        settings: of the pretraining.
        other_BD: pooled features of the frozen modality: they are standardised by mean and spread of each number.
    """

    def __init__(self, own_dim: int, other_dim: int, settings: PretrainSettings, *, other_BD: Tensor) -> None:
        super().__init__()
        self.own = nn.Linear(own_dim, settings.projection_dim)
        self.other = nn.Linear(other_dim, settings.projection_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / settings.temperature)))
        # All sources of an encoder have most of their features in common, which tells none from another.
        self.mean, self.spread = other_BD.mean(0), other_BD.std(0, correction=0).clamp_min(1e-6)

    def forward(self, own_BD: Tensor, other_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both sides `(B, P)` of length 1, and the inverse temperature (scalar)."""
        own_BP = functional.normalize(self.own(own_BD), dim=-1)
        other_BP = functional.normalize(self.other((other_BD - self.mean) / self.spread), dim=-1)
        return own_BP, other_BP, self.log_scale.exp().clamp_max(MAX_SCALE)


class _Training:
    """The loop and what it changes."""

    def __init__(
        self,
        model: CremaModel,
        records: Sequence[Record],
        settings: PretrainSettings,
        *,
        modality: str,
        against: str,
        folder: Path,
        status: StatusLine,
    ) -> None:
        self.model, self.records, self.settings = model, records, settings
        self.name, self.against, self.folder, self.status = modality, against, folder, status
        self.distributed = Distributed(precision=settings.precision, folder=folder)
        model.to(self.distributed.device)
        self.targets_ND = self._encode_targets()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("pretrain heads", settings.seed))
            own_dim, other_dim = (model.branch(name).modality.feature_dim for name in (modality, against))
            self.heads = _Heads(own_dim, other_dim, settings, other_BD=self.targets_ND).to(model.device)
        own = {f"modalities.{modality}.{key}": value for key, value in self._encoder().items()}
        self.parameters = own | {f"heads.{key}": value for key, value in self.heads.named_parameters()}
        shared = train_settings(None, settings.model_dump(include=set(_SHARED)))
        self.optimizer = make_optimizer(self.parameters, shared)
        self.batches_per_epoch = len(self._batches(0))
        self.schedule = make_schedule(shared, steps_per_epoch=self.batches_per_epoch)
        self.metrics = MetricsFile(folder / METRICS)

    def run(self, checkpoint: Path | None) -> None:
        """Train from the start, or from a checkpoint, to the end."""
        at = Position(0, 0, 0)
        torch.manual_seed(derive_seed("pretrain", self.settings.seed))
        if checkpoint is not None:
            at = self._load(checkpoint)
        else:
            self.metrics.truncate(0)
        encoder = {*self._encoder().values()}
        set_trainable(self.model, names_of(self.model, encoder))
        self.model.train()
        while at.epoch < self.settings.epochs:
            at = self._epoch(at)
            self._save(at)

    def _epoch(self, at: Position) -> Position:
        started, total, right, chance, seen = time.perf_counter(), 0.0, 0, 0.0, 0
        for batch in self._prepared(at.epoch):
            set_learning_rate(self.optimizer, self.schedule(at))
            rows = torch.tensor([int(record.line) for record in batch.records], device=self.model.device)
            other_BD = self.targets_ND[rows]
            paths = [record.paths(self.against) for record in batch.records]
            same_BB = torch.tensor([[one == two for two in paths] for one in paths], device=self.model.device)
            with self.distributed.forward_pass():
                features = self.model.branch(self.name).encode(batch.modalities[self.name].to(self.model.device))
                sides = self.heads(pooled(features), other_BD)
                loss, found = info_nce(sides[0], sides[1], scale=sides[2], same_BB=same_BB)
            if not math.isfinite(float(loss.detach())):
                raise self._not_finite(f"The loss became {float(loss.detach())}", at, batch.ids)
            loss.backward()
            trained = list(self.parameters.values())
            norm = nn.utils.get_total_norm([own.grad for own in trained if own.grad is not None])
            if not math.isfinite(float(norm)):
                raise self._not_finite(f"The norm of the gradient became {float(norm)}", at, batch.ids)
            if self.settings.max_grad_norm is not None:
                nn.utils.clip_grads_with_norm_(trained, self.settings.max_grad_norm, norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.model.branch(self.name).trained_features = None
            count = len(batch)
            total, seen, right = total + float(loss.detach()) * count, seen + count, right + int(found)
            chance += 1.0
            at = Position(at.epoch, at.step_in_epoch + 1, at.step + 1)
            self.status.show(f"pretraining {self.name}: epoch {at.epoch + 1}, loss {total / seen:.3f}")
        line: dict[str, Value] = {
            "epoch": at.epoch,
            "step": at.step,
            "loss": total / seen,
            "accuracy": right / (2 * seen),
            "chance": chance / seen,
            "lr": self.schedule(Position(at.epoch, 0, at.step - 1)),
            "seconds": time.perf_counter() - started,
        }
        self.metrics.write("epoch", line)
        return Position(at.epoch + 1, 0, at.step)

    def _not_finite(self, what: str, at: Position, ids: Sequence[str]) -> TrainingError:
        return TrainingError(
            f"{what} in epoch {at.epoch + 1}, training {self.name} on the samples {', '.join(ids)}. Only finite "
            f"numbers are kept, and the checkpoints in '{self.folder}' are finite. Look at these samples; if they are "
            'fine, start again with a lower lr, max_grad_norm=1.0, or precision="fp32".'
        )

    def _batches(self, epoch: int) -> list[list[int]]:
        """Return the pairs of every batch; a rest of one pair has nothing to be told apart from, and is left out."""
        order = epoch_order(len(self.records), seed=self.settings.seed, epoch=epoch)
        return [batch for batch in cut(order, self.settings.batch_size) if len(batch) > 1]

    def _prepared(self, epoch: int) -> Iterator[Any]:
        keys = [[Key(epoch, index) for index in batch] for batch in self._batches(epoch)]
        seed = derive_seed("loader", self.settings.seed, epoch)
        return load_batches(self._dataset(self.name), keys, num_workers=self.settings.num_workers, seed=seed)

    def _dataset(self, name: str) -> ModalityDataset:
        return ModalityDataset(self.records, {name: self.model.branch(name).modality}, major=name)

    @torch.no_grad()
    def _encode_targets(self) -> Tensor:
        """Return the pooled features `(N, D)` of the frozen modality, one row per pair; each source is encoded once."""
        self.model.eval()
        first: dict[tuple[str, ...], int] = {}
        for index, record in enumerate(self.records):
            first.setdefault(record.paths(self.against), index)
        keys = [[Key(0, index) for index in batch] for batch in cut(list(first.values()), self.settings.batch_size)]
        rows: list[Tensor] = []
        batches = load_batches(self._dataset(self.against), keys, num_workers=self.settings.num_workers)
        with self.distributed.forward_pass():
            for batch in batches:
                features = self.model.encode(batch.modalities)[self.against]
                rows.append(pooled(features).float())
                self.status.show(f"encoding {self.against}: {sum(map(len, rows)):,} of {len(first):,} sources")
        place = {paths: row for row, paths in enumerate(first)}
        rows_N = torch.tensor([place[record.paths(self.against)] for record in self.records], device=self.model.device)
        return torch.cat(rows)[rows_N]

    def _encoder(self) -> dict[str, nn.Parameter]:
        return self.model.branch(self.name).encoder_parameters()

    def _save(self, at: Position) -> None:
        weights = {key: value.detach().cpu().clone() for key, value in self.parameters.items()}
        name, moments = f"epoch-{at.epoch:03d}-step-{at.step:06d}", optimizer_state(self.optimizer, self.parameters)
        if bad := not_finite(weights | moments):
            raise self._not_finite(f"'{bad[0]}' is not finite after the last update", at, ())
        checkpoint = Checkpoint(
            adapters=weights,
            optimizer=moments,
            random={f"0.{kind}": own for kind, own in random_state(self.model.device).items()},
            state={"position": list(at), "metrics_bytes": self.metrics.num_bytes},
        )
        folder = write_checkpoint(self.folder, name, checkpoint)
        point(self.folder, LAST, name)
        prune(self.folder, keep=[folder])

    @torch.no_grad()
    def _load(self, folder: Path) -> Position:
        checkpoint = read_checkpoint(folder)
        for key, value in self.parameters.items():
            value.copy_(checkpoint.adapters[key])
        load_optimizer_state(self.optimizer, self.parameters, checkpoint.optimizer)
        load_random_state(
            self.model.device, {key.removeprefix("0."): state for key, state in checkpoint.random.items()}
        )
        self.metrics.truncate(checkpoint.state["metrics_bytes"])
        return Position(*checkpoint.state["position"])


def _require_roles(model: CremaModel, modality: str, against: str) -> None:
    """Raise unless there is an encoder to train and a frozen one to train it against."""
    if not model.branch(modality).modality.trainable:
        trainable = [name for name in model.names if model.branch(name).modality.trainable]
        raise OptionsError(
            f"The encoder of '{modality}' is frozen, so there is nothing to pretrain. Accepted: a modality whose spec "
            f"declares trainable=True; in this model: {', '.join(trainable) or 'none'}. Name one of these."
        )
    if model.branch(against).modality.trainable or model.branch(against).modality.own_tokens or modality == against:
        raise OptionsError(
            f"'{against}' is no frozen modality with features of its own, which '{modality}' could be trained against. "
            "What is learned is what the other one understands already. Name a modality with a frozen encoder."
        )
    if join_processes().count > 1:
        raise OptionsError(
            "pretrain came in a launch of several processes. A pretraining runs in one, because all pairs of a batch "
            "are told apart together. Start it without --processes."
        )


def _settings_of(folder: Path, saved: Mapping[str, Any] | None) -> dict[str, object]:
    """Return the settings a run to continue began with; those that came later than it had their defaults."""
    found = {} if saved is None else saved.get("settings")
    if not isinstance(found, dict):
        raise CheckpointError(
            f"The pretraining in '{folder}' cannot be continued: its {CONFIG} states no settings. Needed is the file "
            "as it was written. Copy the folder again, or start a new run with another out=. Nothing was changed."
        )
    return found


def _refuse_changes(saved: dict[str, Any], now: dict[str, Any], *, free: frozenset[str]) -> None:
    """Raise when a run to continue differs from this one in more than the settings `free`."""
    plain = json.loads(json.dumps(now))
    before, after = PretrainSettings().model_dump(mode="json") | saved.pop("settings"), plain.pop("settings")
    for name in after:
        if name not in free and before[name] != after[name]:
            saved, plain = {**saved, name: before[name]}, {**plain, name: after[name]}
    changed = [key for key in plain if key != "features" and plain[key] != saved.get(key)]
    for name, features in plain["features"].items():
        if (change := feature_changes(saved.get("features", {}).get(name, {}), features)) is not None:
            changed.append(f"features of {name}")
            saved, plain = {**saved, changed[-1]: "as they were"}, {**plain, changed[-1]: change}
    if changed:
        lines = "\n  ".join(f"{key}: {saved.get(key)} -> {plain[key]}" for key in changed)
        raise CheckpointError(
            f"This pretraining cannot be continued, because something changed (was -> now):\n  {lines}\nUndo the "
            f"change, or start a new run with another out=. Nothing was changed ({CONFIG})."
        )
