"""The border between core and the code of modalities: every call of it is here, and nothing passes unchecked.

A modality is foreign code. What it raises besides the errors of this package, and what it returns besides what the
contract allows, becomes an error that names the modality, its package and version, the call, and the source and sample
where they are known. Everyone who calls `prepare`, `collate`, `encode`, `load_assets`, `show` and the like of a
modality calls the function of that name here, in worker processes too (`Carried`).

What is returned is checked where it costs next to nothing: types, dtypes and shapes are known without looking at any
number; of numbers the smallest and the largest are looked at, those of a source in the process that read it, those of
features on their device with the one transfer that looks at the mask.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crema_core import errors
from crema_core.common.tensors import is_out_of_memory
from crema_core.data.files import describe_source
from crema_core.data.limits import timed
from crema_core.data.reuse import read_by
from crema_core.data.sampling import file_of
from crema_core.errors import (
    AssetError,
    BuildError,
    ContractError,
    CremaError,
    MediaError,
    OutOfMemoryError,
    PluginExitError,
    TrainingError,
    WorkerError,
    first_line,
)
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample, fence_of, load_modality_class
from crema_core.plugins.fence import DISABLE
from crema_core.plugins.loading import ResolvedPlugin
from crema_core.plugins.spec import ModalityOptions

_RULES = {
    "__init__": "__init__ builds the modality from every set of options that its declaration accepts.",
    "prepare": "A source that cannot be read is refused with MediaError, and nothing else is raised.",
    "collate": "collate() returns a Batch of every list of samples that prepare() returned.",
    "encode": "encode() returns Features for every batch that collate() returned.",
    "load_assets": "Weights that are missing or damaged are refused with AssetError, and nothing else is raised.",
    "load_shapes": "load_shapes() builds what load_assets() would load, and raises nothing.",
    "show": "A source that cannot be read is refused with MediaError, and nothing else is raised.",
    "example": "example() returns a source that prepare() accepts, and raises nothing.",
}
_IN_MEMORY = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_NUM_NAMED = 3
"""Samples of a batch that a message names."""


def construct(plugin: ResolvedPlugin, options: ModalityOptions, context: BuildContext) -> Modality:
    """Import a modality's class and build it.

    Args:
        plugin: where it comes from; its provider is told to the modality, for messages.
        options: validated options.
        context: what core offers.

    Raises:
        PluginError: as `load_modality_class`.
        ContractError: when `__init__` raises anything else than an error of this package.
    """
    factory = load_modality_class(plugin)
    owner = _Owner(plugin.spec.name, plugin.provider, factory.__name__)
    with _border(owner, "__init__", f", with {options!r}"), fence_of(plugin, f"running {plugin.spec.factory}.__init__"):
        return factory(options, replace(context, provider=plugin.provider))


def load_assets(modality: Modality, folder: Path | None = None) -> None:
    """Load a modality's pretrained weights.

    Raises:
        AssetError: when a file or a connection failed.
        ContractError: when anything else than an error of this package is raised.
    """
    with _border(_owner_of(modality), "load_assets"):
        modality.load_assets(folder)


def load_shapes(modality: Modality) -> None:
    """Build what `load_assets` would load, without weights; raises as `load_assets`."""
    with _border(_owner_of(modality), "load_shapes"):
        modality.load_shapes()


def example(modality: Modality, generator: torch.Generator) -> Any:
    """Return a synthetic source; raises `ContractError` when the modality raises anything."""
    with _border(_owner_of(modality), "example"):
        return modality.example(generator)


def show(modality: Modality, source: object) -> Tensor:
    """Return the picture `(H, W, 3)` uint8 that a modality draws of a source.

    Raises:
        MediaError: when the source cannot be read.
        ContractError: when there is no picture, or anything else is raised or returned.
    """
    owner, where = _owner_of(modality), f", reading {name_source(source)}"
    with _border(owner, "show", where, source=source):
        picture = modality.show(source)
    legal = isinstance(picture, Tensor) and picture.dtype == torch.uint8 and picture.dim() == 3
    if not legal or picture.shape[2] != 3 or picture.numel() == 0 or picture.device.type != "cpu":
        raise owner.refusal(
            f"show() returned {_kind_of(picture)}{where}. Accepted is a CPU tensor (H, W, 3) of type uint8"
        )
    return picture


def prepare(modality: Modality, source: object) -> Sample:
    """Read one source into CPU tensors.

    Raises:
        MediaError: when the source cannot be read; the message has its file.
        OutOfMemoryError: when what it holds does not fit into memory.
        ContractError: when anything else is raised, or anything but a sample of finite CPU tensors is returned.
    """
    owner, where = _owner_of(modality), f", reading {name_source(source)}"
    with _border(owner, "prepare", where, source=source), timed(), read_by(modality):
        sample = modality.prepare(source)
    # What a vision-language model's processor makes has layouts of its own, and no common number of steps.
    has_steps = getattr(getattr(modality, "context", None), "reader", None) is None
    if fault := _fault_of_sample(sample, has_steps=has_steps):
        raise owner.refusal(f"prepare() returned {fault[0]}{where}. {fault[1]}")
    return sample


def collate(modality: Modality, samples: Sequence[Sample], labels: Sequence[str] = ()) -> Batch:
    """Pad samples to one batch.

    Args:
        modality: whose samples they are.
        samples: at least one.
        labels: how messages name them.

    Raises:
        ContractError: when anything but a batch on the CPU with a mask `(B, T)` of these samples is returned, or
            anything else than an error of this package is raised.
    """
    owner, where = _owner_of(modality), _for_samples(labels)
    with _border(owner, "collate", where):
        batch = modality.collate(samples)
    if fault := _fault_of_batch(batch, len(samples)):
        raise owner.refusal(f"collate() returned {fault[0]}{where}. {fault[1]}")
    return batch


def encode(modality: Modality, batch: Batch, labels: Sequence[str] = ()) -> Features:
    """Run a modality's encoder, a frozen one without gradient.

    Args:
        modality: whose encoder it is.
        batch: B samples.
        labels: how messages name them.

    Raises:
        ContractError: when anything but finite features `(B, T, N, feature_dim)` with a mask is returned, when those of
            an encoder that is trained do not depend on its parameters, or anything else than an error of this package
            is raised.
        TrainingError: when parameters of an encoder that is trained are not finite.
    """
    owner = _owner_of(modality)
    trained = torch.is_grad_enabled() and getattr(modality, "trainable", False)
    with torch.set_grad_enabled(trained), _border(owner, "encode", _for_samples(labels)):
        features = modality.encode(batch)
        width = modality.feature_dim
    fault = _fault_of_features(features, batch, width)
    if fault is None and trained:
        fault = _fault_of_gradient(modality, features)
    fault = fault or _fault_of_numbers(features, modality)
    if fault:
        named = [labels[row] for row in fault.rows] if labels and fault.rows else labels
        raise owner.refusal(f"encode() returned {fault.found}{_for_samples(named)}. {fault.accepted}")
    return features


def name_source(source: object) -> str:
    """Return how messages name a source: its file or files, else what kind of object it is."""
    given = source if isinstance(source, list | tuple) else [source]
    paths = [str(path) for path in given if isinstance(path, str | os.PathLike)]
    if not paths or len(paths) < len(given):
        return describe_source(source)
    return f"'{paths[0]}'{f' and {len(paths) - 1:,} more' if len(paths) > 1 else ''}"


def is_about_a_dead_worker(error: BaseException) -> bool:
    """Whether it is what torch's signal handler raises in the main process, in whatever code runs at that moment."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


class Carried:
    """An error on its way to the main process, in place of what could not be made.

    An exception raised in a worker process arrives as a stack trace in the message of another; an exception of a
    package's own class may not pickle at all. This arrives as an error of this package whose cause has the traceback.
    """

    def __init__(self, error: CremaError) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        trace = "".join(traceback.format_exception(self.error.__cause__ or self.error))
        return _arrived, (_core_class(self.error), str(self.error), trace)


def _arrived(kind: type[CremaError], text: str, trace: str) -> Carried:
    error = BuildError([text]) if kind is BuildError else kind(text)
    error.__cause__ = WorkerError(f"\n{trace}")
    return Carried(error)


def _core_class(error: CremaError) -> type[CremaError]:
    return next(own for own in type(error).__mro__ if own.__module__ == errors.__name__)


@dataclass(frozen=True)
class _Owner:
    """Whose code is called."""

    name: str  # of the modality; empty for a class without a spec
    provider: str  # `distribution version`, or how it was given; empty when nobody said
    class_name: str

    def __str__(self) -> str:
        subject = f"'{self.name}'" if self.name else self.class_name
        return f"{subject} ({self.provider})" if self.provider else subject

    @property
    def distribution(self) -> str:
        """The package; empty for a modality given in the process."""
        known = " " in self.provider and not self.provider.startswith("given ")
        return self.provider.partition(" ")[0] if known else ""

    @property
    def advice(self) -> str:
        """What to do about a fault of its code."""
        if not self.distribution:
            return f"Correct {self.class_name}; crema_core.testing.check_modality(SPEC) finds such faults."
        return (
            f"This is a fault of {self.distribution}: report it to its authors with the traceback. See what else is "
            f"wrong with it: crema plugins check {self.name}. Work without it: {DISABLE}={self.name}"
        )

    def refusal(self, found: str) -> ContractError:
        """Return the error for what was returned; `found` has what came and what is accepted."""
        return ContractError(f"{self}: {found.rstrip('.')}. {self.advice}")


def _owner_of(modality: Modality) -> _Owner:
    # A class without a spec, or one that never called `super().__init__`, must not hide what is wrong with it.
    spec, context = getattr(modality, "spec", None), getattr(modality, "context", None)
    return _Owner(getattr(spec, "name", ""), getattr(context, "provider", ""), type(modality).__name__)


@contextmanager
def _border(owner: _Owner, call: str, where: str = "", *, source: object = None) -> Iterator[None]:
    """Turn what foreign code raises into errors of this package, which themselves pass.

    Raises:
        CremaError: those pass; a `MediaError` gets the file of `source`, a `ContractError` the owner, where they lack.
        OutOfMemoryError: when reading a source needs more memory than there is. That of other calls passes as it is:
            `crema_core.model.memory` states what needs less.
        ContractError: for everything else, `SystemExit` included; `AssetError` for files and connections of weights.
    """
    try:
        yield
    except MediaError as error:
        text = str(error)
        if source is not None and not _names(text, source):
            error.args = (f"{name_source(source)}: {text}",)  # type, traceback and cause stay
        raise
    except ContractError as error:
        text = str(error)
        if not owner.name or f"'{owner.name}'" not in text:
            error.args = (f"{owner}: {text}",)
        raise
    except PluginExitError as error:
        raise ContractError(f"{owner}: {call}() raised {error}{where}. {_RULES[call]} {owner.advice}") from (
            error.__cause__
        )
    except CremaError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            if source is None:
                raise
            raise OutOfMemoryError(
                f"{owner}: {call}() needs more memory than there is ({first_line(error)}){where}. A damaged file may "
                "announce more than it holds. Write or download the file again, or use fewer num_workers."
            ) from error
        if is_about_a_dead_worker(error):
            raise
        kind = AssetError if call == "load_assets" and isinstance(error, OSError) else ContractError
        raise kind(f"{owner}: {call}() raised {_told(error)}{where}. {_RULES[call]} {owner.advice}") from error


def _told(error: BaseException) -> str:
    """Return "ValueError: boom (reader.py, line 17)", the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = str(error).strip()
    return f"{type(error).__name__}{f': {first_line(error)}' if text else ''}{place}"


def _names(text: str, source: object) -> bool:
    """Whether a message has the file of a source, or one of its files; true for a source that is no file."""
    paths = source if isinstance(source, list | tuple) else [source]
    files = [Path(file_of(os.fspath(path))).name for path in paths if isinstance(path, str | os.PathLike)]
    return not files or any(file in text for file in files)


def _for_samples(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - _NUM_NAMED:,} more" if len(labels) > _NUM_NAMED else ""
    return f", for {'; '.join(labels[:_NUM_NAMED])}{more}"


class _Fault(NamedTuple):
    """What is wrong with what was returned."""

    found: str  # what came
    accepted: str  # a sentence or more
    rows: tuple[int, ...] = ()  # the samples concerned, where they are known


def _kind_of(value: object) -> str:
    described = describe_source(value)
    return "None" if value is None else f"{'an' if described[0] in 'aeiouAEIOU' else 'a'} {described}"


def _fault_of_sample(sample: object, *, has_steps: bool) -> _Fault | None:
    accepted = "Accepted is Sample({name: tensor (T, ...)}, times)"
    if not isinstance(sample, Sample):
        return _Fault(_kind_of(sample), accepted)
    if not isinstance(sample.tensors, dict) or not sample.tensors:
        return _Fault("a Sample without tensors", accepted)
    given: Mapping[str, object] = sample.tensors
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            return _Fault(f"a Sample whose '{name}' is {_kind_of(tensor)}", accepted)
        what = f"a Sample whose '{name}'"
        if tensor.device.type != "cpu":
            return _Fault(f"{what} is on the device '{tensor.device}'", "Accepted are tensors on the CPU")
        if tensor.requires_grad:
            return _Fault(f"{what} requires a gradient", "Accepted are tensors without one: tensor.detach()")
        if tensor.dtype not in (*_IN_MEMORY, *_FLOATS):
            return _Fault(
                f"{what} is of type {_short(tensor.dtype)}",
                "Accepted are bool, whole numbers and floats of at most 32 bits: tensor.float()",
            )
        if tensor.is_floating_point() and not _is_finite(tensor):
            bad = int((~tensor.isfinite()).sum())
            return _Fault(
                f"a Sample of which {bad:,} of {tensor.numel():,} numbers of '{name}' are not finite",
                "Accepted are finite numbers; a source that holds others is refused with MediaError. Look at the "
                "source first: it may hold NaN or infinity itself",
            )
    if not has_steps:
        clock = sample.times
        return _fault_of_times(clock, (clock.shape[0] if isinstance(clock, Tensor) and clock.dim() else None, 2))
    steps = {tensor.shape[0] if tensor.dim() else None for tensor in sample.tensors.values()}
    if len(steps) != 1 or not steps.isdisjoint({None, 0}):
        shapes = ", ".join(f"'{name}' {tuple(tensor.shape)}" for name, tensor in sample.tensors.items())
        return _Fault(f"a Sample of shapes {shapes}", "All have the same number of steps T first, at least one")
    return _fault_of_times(sample.times, (*steps, 2))


def _fault_of_times(times: object, shape: tuple[int | None, ...]) -> _Fault | None:
    if times is None:
        return None
    if not isinstance(times, Tensor) or times.dtype != torch.float32 or tuple(times.shape) != shape:
        return _Fault(
            f"times that are {_kind_of(times)}",
            f"Accepted is None, or a tensor {shape} of type float32: start and end of every step in seconds",
        )
    if times.device.type != "cpu" or times.requires_grad:
        return _Fault(f"times on the device '{times.device}', or with a gradient", "Accepted are plain CPU tensors")
    return None


def _fault_of_batch(batch: object, num_samples: int) -> _Fault | None:
    accepted = f"Accepted is Batch(tensors, mask, sizes, times) on the CPU, with a bool mask ({num_samples}, T)"
    if not isinstance(batch, Batch):
        return _Fault(_kind_of(batch), accepted)
    for name, tensor in batch.tensors.items():
        if not isinstance(tensor, Tensor) or tensor.device.type != "cpu":
            return _Fault(f"a Batch whose '{name}' is {_kind_of(tensor)}{_device_of(tensor)}", accepted)
    mask = batch.mask
    legal = isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.device.type == "cpu" and mask.dim() == 2
    if not legal or mask.shape[0] != num_samples:
        return _Fault(f"a Batch whose mask is {_kind_of(mask)}{_device_of(mask)}", accepted)
    return None


def _fault_of_features(features: object, batch: Batch, width: int) -> _Fault | None:
    samples, device = batch.mask.shape[0], batch.mask.device.type
    accepted = (
        f"The contract is Features(values, mask), values ({samples}, steps, tokens, {width}) floats on the batch's "
        f"device; feature_dim is {width}"
    )
    if not isinstance(features, Features):
        return _Fault(_kind_of(features), accepted)
    parts: tuple[object, ...] = features
    values, mask, times, extras = parts
    if not isinstance(values, Tensor) or not isinstance(mask, Tensor):
        return _Fault(f"Features of {_kind_of(values)} and a mask that is {_kind_of(mask)}", accepted)
    shape = tuple(values.shape)
    if len(shape) != 4 or shape[0] != samples or shape[3] != width:
        return _Fault(
            f"features of shape {shape} for {samples} samples",
            f"The contract is (samples, steps, tokens, {width}); feature_dim is {width}. Correct encode() or "
            "feature_dim",
        )
    if not values.is_floating_point():
        return _Fault(f"features of type {_short(values.dtype)}", "Accepted are floats: values.float()")
    if values.device.type != device or mask.device.type != device:
        return _Fault(
            f"features on '{values.device}' with a mask on '{mask.device}'",
            f"Accepted is the device of the batch, '{batch.mask.device}'",
        )
    if tuple(mask.shape) not in (shape[:2], shape[:3]) or mask.dtype != torch.bool:
        return _Fault(
            f"a {mask.dtype} mask of shape {tuple(mask.shape)}",
            f"The contract is a bool mask of shape {shape[:2]} or {shape[:3]}: Features(values, batch.mask)",
        )
    if times is not None and not (isinstance(times, Tensor) and tuple(times.shape) == (*shape[:2], 2)):
        return _Fault(
            f"times that are {_kind_of(times)}", f"Accepted is None, or (samples, steps, 2): {(*shape[:2], 2)}"
        )
    if not isinstance(extras, Mapping) or not all(
        isinstance(own, Tensor) and own.shape[:1] == (samples,) for own in extras.values()
    ):
        return _Fault("extras of another kind", f"Accepted are tensors ({samples}, ...) by name")
    return None


def _fault_of_gradient(modality: Modality, features: Features) -> _Fault | None:
    """Look whether a gradient comes from features to the encoder that made them."""
    if features.values.requires_grad or not any(parameter.requires_grad for parameter in modality.parameters()):
        return None
    return _Fault(
        "features without a gradient",
        "The spec declares trainable=True, so features depend on the parameters. Leave out torch.no_grad() and "
        "detach() in encode(), and make what is trained nn.Parameters",
    )


def _require_finite_parameters(modality: Modality) -> None:
    """Raise when training has moved an encoder beyond the numbers there are: its package is not at fault.

    Raises:
        TrainingError: naming the first of these parameters.
    """
    bad = [name for name, own in modality.named_parameters() if not _is_finite(own.detach())]
    if bad and getattr(modality, "trainable", False):
        raise TrainingError(
            f"The encoder of '{modality.spec.name}' has {len(bad):,} parameters that are not finite, first: "
            f"{bad[0]}. What is trained stays finite. Continue from an earlier checkpoint with a lower lr, or set "
            "max_grad_norm=1.0."
        )


def _fault_of_numbers(features: Features, modality: Modality) -> _Fault | None:
    """Look at the numbers of features of the right shapes.

    The mask has to be looked at anyway, and a device is waited for there; the smallest and largest number of all, which
    a NaN or an infinity takes the place of, come with the same transfer.
    """
    values, mask = features.values.detach(), features.mask
    looked = [mask.flatten(1).any(1).all(), *(torch.aminmax(values) if values.numel() else ())]
    wide = torch.promote_types(values.dtype, torch.float32)
    has_step, *ends = torch.stack([one.to(wide) for one in looked]).tolist()
    if not has_step:
        rows = tuple((~mask.flatten(1).any(1)).nonzero()[:, 0].tolist())
        return _Fault(
            "features that masked away every step of a sample",
            "A present modality has at least one real step. Refuse empty sources in prepare() with a MediaError",
            rows,
        )
    if all(map(math.isfinite, ends)):
        return None
    _require_finite_parameters(modality)
    bad = ~values.isfinite().flatten(1)
    return _Fault(
        f"features of which {int(bad.sum()):,} of {values.numel():,} numbers are not finite ({_short(values.dtype)})",
        "Accepted are finite numbers, in padded places too. Look for divisions by zero and, in a 16-bit format, for "
        "values beyond its range",
        tuple(bad.any(1).nonzero()[:, 0].tolist()),
    )


def _is_finite(tensor: Tensor) -> bool:
    # Ten times as fast as to look at every number, and without a copy.
    return not tensor.numel() or all(bool(end.isfinite()) for end in torch.aminmax(tensor))


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _device_of(value: object) -> str:
    return f" on '{value.device}'" if isinstance(value, Tensor) and value.device.type != "cpu" else ""
