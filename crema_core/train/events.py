"""What hooks get to see of a training, and what they may change of it.

Only the main process calls hooks. They see detached tensors, run without gradient tracking, and have random numbers
that the training does not see; so a run has the same bits with and without hooks that look. Where nothing listens,
nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.data.dataset import TrainBatch
from crema_core.plugins.control import RunChange, RunControl, RunControls
from crema_core.plugins.hooks import Hooks
from crema_core.tokens import ModalityBatch, ModalityTokens
from crema_core.train.distributed import Distributed

TOKENS, GRADIENTS = "crema_tokens_ready", "crema_gradients_ready"
WITH_CONTROL = ("crema_train_started", "crema_step_finished", "crema_evaluated")


class TrainEvents:
    """Calls the hooks of one training.

    Args:
        hooks: of the run.
        trainer: what hooks get as `trainer`.
        step: returns the number of minibatches done.
        distributed: tells the main process from the others.
    """

    def __init__(self, hooks: Hooks, trainer: Any, *, step: Callable[[], int], distributed: Distributed) -> None:
        self.hooks, self.trainer, self.step, self.device = hooks, trainer, step, distributed.device
        self.processes = distributed.processes
        self.controls = RunControls()
        is_main = self.processes.is_main
        self._sees_tokens, self._sees_gradients = (is_main and hooks.listens(own) for own in (TOKENS, GRADIENTS))
        # whether anything can be asked for; all processes must know, because they take it over together
        self.is_controlled = self.processes.any(
            is_main and any(hooks.listens(event, "control") for event in WITH_CONTROL)
        )

    def tell(self, event: str, **arguments: Any) -> None:
        """Call a hook in the main process."""
        if self.processes.is_main and self.hooks.listens(event):
            self._call(event, **arguments)

    def tokens(
        self, modalities: Sequence[str], batch: TrainBatch, samples: range, tokens: Mapping[str, ModalityTokens]
    ) -> None:
        """Show the tokens of a part of a minibatch before they are fused."""
        if not self._sees_tokens:
            return
        shown = {name: own.detach() for name, own in tokens.items()}
        self._call(
            TOKENS,
            reads=[*tensors_in(shown), *tensors_in(batch.present), *tensors_in(batch.modalities)],
            step=self.step() + 1,
            modalities=tuple(modalities),
            batch=batch,
            samples=samples,
            tokens=MappingProxyType(shown),
        )

    def gradients(self, modalities: Sequence[str], parameters: Mapping[str, nn.Parameter]) -> None:
        """Show the gradients of a sub-step, before they are clipped.

        Args:
            modalities: those it updates.
            parameters: those it may move, by name.
        """
        if not self._sees_gradients:
            return
        shown = {name: own.grad.detach() for name, own in parameters.items() if own.grad is not None}
        norms = norms_of(shown) if self.hooks.listens(GRADIENTS, "norms") else {}
        self._call(
            GRADIENTS,
            reads=list(shown.values()),
            step=self.step() + 1,
            modalities=tuple(modalities),
            gradients=MappingProxyType(shown),
            norms=MappingProxyType(norms),
        )

    def take_changes(self) -> tuple[list[RunChange], float]:
        """Return what hooks have asked for since the last time, and their factor of the learning rate from now on."""
        if not self.is_controlled:
            return [], self.controls.lr_factor
        return self.processes.from_main(lambda: (self.controls.take(), self.controls.lr_factor))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs, as JSON data; what is not is reported."""
        return self.controls.state_dict(report=self.hooks.report)

    def load_state_dict(self, state: Mapping[str, Any]) -> list[RunControl]:
        """Take over what `state_dict` returned; return controls that scale the learning rate without their plugin."""
        self.controls.load_state_dict(state)
        return self.controls.absent(self.hooks.keys)

    @torch.no_grad()
    def _call(self, event: str, *, reads: Sequence[Tensor] = (), **arguments: Any) -> None:
        own = {"control": self.controls.of} if event in WITH_CONTROL else {}
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            self.hooks.call(event, for_plugin=own, guard=lambda: versions(reads), trainer=self.trainer, **arguments)


def norms_of(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the L2 norm of every gradient; all are read from the device at once."""
    if not gradients:
        return {}
    norms = torch._foreach_norm([own.float() if own.dtype.itemsize < 4 else own for own in gradients.values()])
    values = torch.stack([norm.double().to(norms[0].device) for norm in norms]).tolist()
    return dict(zip(gradients, values, strict=True))


def versions(tensors: Iterable[Tensor]) -> list[int]:
    """Return how often each tensor was changed in place, as autograd counts it."""
    return [tensor._version for tensor in tensors if not tensor.is_inference()]


def tensors_in(thing: object) -> Iterator[Tensor]:
    """Yield the tensors of tokens and batches, and of mappings of them."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, Mapping):
        for own in thing.values():
            yield from tensors_in(own)
    elif isinstance(thing, ModalityTokens):
        for own in thing:
            yield from tensors_in(own)
    elif isinstance(thing, ModalityBatch):
        yield from (thing.rows, thing.batch.mask, *thing.batch.tensors.values())
