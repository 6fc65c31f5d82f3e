"""One update: modality by modality (CREMA section 3.3), or of all modalities at once.

Several minibatches that make one update ("gradient_accumulation_steps") are a group and give the numbers of one large
minibatch: the modalities are the outer loop, so each modality's gradient is summed over the whole group before its
step, and the next modality sees the result. Several processes share an update in the same way: each has its part of
every minibatch. The loss is the mean over all answer tokens of the update, wherever they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from crema_core.api.model import CremaModel
from crema_core.common.tensors import not_finite
from crema_core.data.data_file import Record
from crema_core.data.dataset import TrainBatch
from crema_core.errors import LostProcessError, OptionsError, TrainingError
from crema_core.model.token_ids import texts_read_once
from crema_core.model.trainable import held
from crema_core.model.tuning import FULL
from crema_core.tokens import ModalityInput, ModalityTokens
from crema_core.train.distributed import Distributed
from crema_core.train.early_exit import training_order
from crema_core.train.events import TrainEvents
from crema_core.train.optim import gradient_norms, make_optimizer
from crema_core.train.settings import TrainSettings
from crema_core.train.token_cache import TokenCache, micro_batches, size_in

NUM_NAMED = 16
"""Samples a message names."""


@dataclass(frozen=True)
class Minibatch:
    """A batch whose frozen encoders have run."""

    batch: TrainBatch
    features: dict[str, ModalityInput]


@dataclass(frozen=True)
class StepResult:
    """Numbers of one update."""

    num_samples: int = 0  # samples of the update, in all processes
    # by modality, before its own sub-step; in joint mode one entry, "joint"
    losses: dict[str, float] = field(default_factory=dict)
    # by modality, over the weights that early exit measures
    gradient_norms: dict[str, float] = field(default_factory=dict)
    # by modality as the losses: what its sub-step took by the clock of the host
    seconds: dict[str, float] = field(default_factory=dict)


class PartLoss(NamedTuple):
    """The loss of a part of a minibatch."""

    value: Tensor  # scalar, float64; on the device, where it need not be computed yet
    records: Sequence[Record]


@dataclass(frozen=True)
class GlobalBatch:
    """What all processes together have in one update."""

    num_samples: int  # samples
    num_tokens: int  # answer tokens, end tokens included
    present: tuple[str, ...]  # the active modalities that at least one sample has, in order
    largest_parts: tuple[int, ...]  # samples of each minibatch in the process that has the most of them


class Stepper:
    """The parts an update touches.

    Args:
        model: a built model; updates need it in train mode, with exactly the parameters below trainable.
        settings: of the run.
        trained: modalities to train, in the model's order.
        distributed: number format and processes.
        events: what hooks get to see of an update; None: nothing.
    """

    def __init__(
        self,
        model: CremaModel,
        settings: TrainSettings,
        *,
        trained: tuple[str, ...],
        distributed: Distributed,
        events: TrainEvents | None = None,
    ) -> None:
        self.model, self.settings, self.distributed, self.events = model, settings, distributed, events
        # parameters of every trained modality, by modality and name
        self.adapters = {name: model.adapter_parameters(name) for name in trained}
        wanted = {f"fusion.{key}" for key in model.fusion_parameters(trained)}
        # When only some modalities are trained, the other blocks keep their weights, and so does what all modalities
        # share: otherwise answers without the trained modalities would change.
        if training_order(model.names, settings.modalities) == model.names or settings.train_shared:
            wanted |= set(model.shared_parameters())
        # trained parameters of fusion and language model, keyed as in `CremaModel.trainable_parameters`
        self.shared = {key: value for key, value in model.trainable_parameters().items() if key in wanted}
        own = {f"modalities.{name}.{key}": value for name, part in self.adapters.items() for key, value in part.items()}
        # everything the optimizer may move, with keys of the same kind
        self.parameters: dict[str, nn.Parameter] = own | self.shared
        # the parameters whose gradient norm is recorded, by modality
        self.measured = {name: self._measured(name) for name in trained}
        scales = {
            f"modalities.{name}.{key}": model.branch(name).adapter.lr_scale
            for name, part in self.adapters.items()
            for key in part
        }
        # what a person can do when numbers are not finite, for messages
        self.recovery: Callable[[], str] = lambda: 'Lower lr, set max_grad_norm=1.0, or use precision="fp32".'
        self._last: tuple[Sequence[str], Sequence[Record]] = ((), ())  # modalities and samples of the last sub-step
        # over all parameters
        self.optimizer: torch.optim.Optimizer = make_optimizer(self.parameters, settings, lr_scales=scales)

    def _measured(self, name: str) -> list[nn.Parameter]:
        # A connector without LoRA is measured whole; where all that a modality trains is in the fusion, its block is.
        own = self.adapters[name] or self.model.fusion_parameters([name])
        lora = self.model.lora_parameters(name) if self.settings.early_exit_metric == "lora" else {}
        return list((lora or own).values())

    @texts_read_once()
    def sequential(self, group: Sequence[Minibatch], active: Sequence[str]) -> StepResult:
        """Update the active modalities one after the other; a modality that no sample of the group has is skipped."""
        whole = self._global_batch(group, active)
        first, waiting = whole.present[:1], whole.present[1:]
        limit = self.settings.retained_graphs
        # With several minibatches to one update all would hold theirs.
        kept = waiting[:limit] if len(group) == 1 or limit is not None else ()
        # A new Q-Former is updated with its modality, and what the others make of theirs with it.
        owner = self._qformer_owner()
        if owner in whole.present:
            kept = ()
        caches = [self._cache(one, kept=kept, later=first) for one in group]
        result = StepResult(whole.num_samples)
        for sub_step, name in enumerate(whole.present):
            started = time.perf_counter()
            losses = self._accumulate(group, caches, [name], whole, sub_step)
            result.losses[name] = self._step([name], losses, result, group)
            if name != whole.present[-1]:
                for cache in caches:
                    for other in self._changed(name):
                        if other in cache.features:
                            cache.refresh(other)
            result.seconds[name] = time.perf_counter() - started
        return result

    def _qformer_owner(self) -> str | None:
        qformer = self.model.backbone.qformer
        return None if qformer is None else qformer.owner

    def _changed(self, name: str) -> list[str]:
        """Return the modalities whose tokens are others after an update of one of them."""
        if name != self._qformer_owner():
            return [name]
        return [own for own in self.model.names if self.model.branch(own).adapter.passes_qformer]

    @texts_read_once()
    def joint(self, group: Sequence[Minibatch], active: Sequence[str]) -> StepResult:
        """Update all active modalities in one step."""
        whole = self._global_batch(group, active)
        result = StepResult(whole.num_samples)
        if whole.present:
            started = time.perf_counter()
            # One cache at a time: the graphs of a minibatch are freed by its backward pass.
            caches = (self._cache(one, kept=whole.present) for one in group)
            losses = self._accumulate(group, caches, whole.present, whole, 0)
            result.losses["joint"] = self._step(whole.present, losses, result, group)
            result.seconds["joint"] = time.perf_counter() - started
        return result

    def _global_batch(self, group: Sequence[Minibatch], active: Sequence[str]) -> GlobalBatch:
        # A modality may be in another process's samples alone; this process takes part in its sub-step all the same.
        here = [float(any(name in one.features for one in group)) for name in active]
        tokens = sum(self.model.language.count_tokens(self._answers(one.batch.records)) for one in group)
        lengths = [float(len(one.batch)) for one in group]
        num_tokens, *sums = self.distributed.processes.sum([tokens, *lengths, *here])
        lengths, found = sums[: len(group)], sums[len(group) :]
        present = tuple(name for name, count in zip(active, found, strict=True) if count)
        largest_parts = tuple(ceil(length / self.distributed.processes.count) for length in lengths)
        return GlobalBatch(int(sum(lengths)), int(num_tokens), present, largest_parts)

    def _cache(self, one: Minibatch, *, kept: Sequence[str], later: Sequence[str] = ()) -> TokenCache:
        questions = self._questions(one.batch.records)
        return TokenCache(self.model, one.features, questions, kept=kept, later=later, distributed=self.distributed)

    def _accumulate(
        self,
        group: Sequence[Minibatch],
        caches: Iterable[TokenCache],
        names: Sequence[str],
        whole: GlobalBatch,
        sub_step: int,
    ) -> list[PartLoss]:
        """Add the group's gradients and return the losses, which nobody has looked at."""
        losses, size = [], size_in(self.settings.micro_batch_size, sub_step)
        for one, cache, largest in zip(group, caches, whole.largest_parts, strict=True):
            parts = micro_batches(len(one.batch), size)
            for part, tokens in cache.parts(names, parts) if parts else ():
                if self.events is not None:
                    self.events.tokens(names, one.batch, part, tokens)
                records = one.batch.records[part.start : part.stop]
                loss = self._loss(records, tokens, whole.num_tokens, names)
                losses.append(PartLoss(loss.detach().double(), records))
                if loss.requires_grad:  # not so where no trained modality and no trained fusion block takes part
                    loss.backward()
            # Another process has more parts: the last batch of an epoch may be smaller than the number of processes.
            for _ in range(len(micro_batches(largest, size)) - len(parts)):
                self._keep_in_step()
        return losses

    def _loss(
        self, records: Sequence[Record], tokens: Mapping[str, ModalityTokens], num_tokens: int, names: Sequence[str]
    ) -> Tensor:
        questions = self._questions(records)
        # A fusion that lets all modalities pass the Q-Former together applies the adapters itself; those of the others
        # wait for their own sub-steps.
        waiting = [one for name, own in self.adapters.items() if name not in names for one in own.values()]
        with self.distributed.forward_pass(), held(waiting):
            return self.model.loss(tokens, questions, self._answers(records), num_tokens=num_tokens)

    def _keep_in_step(self) -> None:
        """Make the passes the other processes make where the language model's layers are shared out."""
        if self.model.language.in_step:
            with self.distributed.forward_pass():
                loss = self.model.loss({}, [""], [""])
            (loss * 0.0).backward()

    def _questions(self, records: Sequence[Record]) -> list[str]:
        return [self.model.template.render(record.question, record.choices) for record in records]

    def _answers(self, records: Sequence[Record]) -> list[str]:
        return [self.model.template.target(record.answer, record.choices) for record in records]

    def _step(
        self, names: Sequence[str], losses: Sequence[PartLoss], result: StepResult, group: Sequence[Minibatch]
    ) -> float:
        """Step with the gradients of all processes; return the loss of all of them.

        Raises:
            TrainingError: when a loss, a gradient, or a weight that the step before has moved, is not finite.
            LostProcessError: when a loss of another process is not.
        """
        allowed = [parameter for name in names for parameter in self.adapters[name].values()]
        allowed += self.shared.values()
        self._assert_only(allowed)
        own_losses = [part.value for part in losses]
        of_all = self.distributed.reduce_gradients(allowed, own_losses)
        updated = [parameter for parameter in allowed if parameter.grad is not None]
        gradients = [parameter.grad for parameter in updated if parameter.grad is not None]
        total = nn.utils.get_total_norm(gradients)
        weight = nn.utils.get_total_norm([parameter.detach() for parameter in updated], inf)
        # All numbers of the sub-step in one transfer: here alone the host waits for the device.
        numbers = gradient_norms([self.measured[name] for name in names], total, weight, of_all, *own_losses)
        norms, ends, (loss, *found) = numbers[: len(names)], numbers[len(names) :][:2], numbers[len(names) + 2 :]
        self._require_finite_losses(names, losses, found, loss)
        result.gradient_norms.update(zip(names, norms, strict=True))
        self._last = (names, [record for one in group for record in one.batch.records])
        if not all(map(isfinite, ends)):
            self._refuse(
                {f"the gradient of {key}": own.grad for key, own in self.parameters.items() if own.grad is not None}
                | {key: own.detach() for key, own in self.parameters.items()}
            )
        if self.events is not None:
            self.events.gradients(names, self.parameters)
        if self.settings.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(updated, self.settings.max_grad_norm, total)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name in names:
            self.model.branch(name).trained_features = None  # from now on those of the installed package
        return loss

    def _require_finite_losses(
        self, names: Sequence[str], losses: Sequence[PartLoss], found: Sequence[float], of_all: float
    ) -> None:
        for part, value in zip(losses, found, strict=True):
            if not isfinite(value):
                raise TrainingError(
                    f"The loss of {', '.join(names)} became {value} on the samples {_some(part.records)}. A loss must "
                    f"be finite. Look at these samples first. {self.recovery()}"
                )
        if not isfinite(of_all):
            raise LostProcessError(
                f"The loss of {', '.join(names)} became {of_all} in another process of this launch. A loss must be "
                f"finite. Look at that process's message, which names the samples. {self.recovery()}"
            )

    def require_finite(self, more: Mapping[str, Tensor]) -> None:
        """Raise a TrainingError when a weight, or one of `more` tensors by name, is not finite."""
        tensors = {key: own.detach() for key, own in self.parameters.items()} | dict(more)
        if not_finite(tensors):
            self._refuse(tensors)

    def _refuse(self, tensors: Mapping[str, Tensor]) -> None:
        names, records = self._last
        bad = not_finite(tensors)
        first = f", first {bad[0]}" if bad else ": the norm of the gradient is too large for float32"
        raise TrainingError(
            f"The update of {', '.join(names)} on the samples {_some(records)} gave numbers that are NaN or infinite"
            f"{first}. Only finite weights are kept, so nothing was saved. {self.recovery()}"
        )

    def _assert_only(self, allowed: Sequence[nn.Parameter]) -> None:
        known = set(map(id, allowed))
        strays = [
            f"{modality}: {name}"
            for modality, own in self.adapters.items()
            for name, parameter in own.items()
            if parameter.grad is not None and id(parameter) not in known
        ]
        assert not strays, f"gradients outside the active modalities and what they share: {strays[:3]}"


def modalities_to_train(model: CremaModel, settings: TrainSettings) -> tuple[str, ...]:
    """Return the modalities that have sub-steps, in the model's order.

    One without weights of its own, as the pictures a vision-language model sees with its own encoder, takes part in the
    others' sub-steps; a sub-step of its own would move nothing. It has one where a language model is tuned, which every
    sub-step trains, and where nothing but weights shared by all is trained.
    """
    names = training_order(model.names, settings.modalities)
    if model.language_parameters():
        return names
    return tuple(name for name in names if model.adapter_parameters(name) or model.fusion_parameters([name])) or names


def _some(records: Sequence[Record]) -> str:
    more = f" and {len(records) - NUM_NAMED:,} more" if len(records) > NUM_NAMED else ""
    return ", ".join(record.id for record in records[:NUM_NAMED]) + more


def share_language_model(model: CremaModel, distributed: Distributed) -> None:
    """Keep a part of the language model's frozen weights in each process (FSDP2); all make each pass together then.

    Raises:
        OptionsError: when this process is alone, or nothing of the language model is frozen.
    """
    if distributed.processes.count == 1:
        raise OptionsError(
            "shard_language_model=True in one process. A language model is shared out over several, one per GPU. Start "
            "with --processes 2 or more, or leave the setting out."
        )
    if model.backbone.tuning == FULL:
        raise OptionsError(
            "shard_language_model=True with tuning='full'. Only weights that are not trained are shared out: those of "
            "a frozen language model, or those below its LoRA. Build with tuning={'rank': 64, 'alpha': 16}, or leave "
            "the setting out."
        )
    if not model.language.in_step:
        trained = set(model.language_parameters().values())
        model.backbone.identity()  # a checksum of whole weights, which saved models name; kept from here on
        mesh = init_device_mesh(distributed.device.type, (distributed.processes.count,))
        # A layer is gathered while it computes. What is outside the layers stays whole: prompts are laid out with the
        # input embedding before the language model runs, and generation calls the encoder by itself.
        for layer in model.backbone.language_layers():
            fully_shard(layer, mesh=mesh, ignored_params=trained)
        model.language.in_step = True
