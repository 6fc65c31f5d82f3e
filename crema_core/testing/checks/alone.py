"""Silver: the modality alone, from its import to the features of a batch."""

from __future__ import annotations

import copy
import pickle
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crema_core.data import modality_calls
from crema_core.errors import ConformanceError, ContractError, CremaError, MediaError, MissingRequirementError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample, load_modality_class
from crema_core.model.trainable import freeze, set_trainable
from crema_core.plugins.spec import ModalityOptions
from crema_core.testing.check import require
from crema_core.testing.damage import damaged_files
from crema_core.testing.fixtures import IMAGE_SIZE, MAX_DIFFERENCE, VISION_DIM, offline, source, vision
from crema_core.testing.probing import Reading, changes, fresh_generators, heavy_import, read_files, snapshot
from crema_core.testing.under_test import UnderTest


def class_import_changes_nothing(under_test: UnderTest) -> None:
    """Importing the class's module leaves the process as it was: random generators, defaults, environment, logging."""
    # Before the class is imported here: a second import in a child that inherits the changes would find none. A module
    # that cannot be imported at all is what class_keeps_the_contract reports.
    changed = ", ".join(_first_import(under_test)["changes"])
    require(not changed, f"Importing {under_test.spec.factory.partition(':')[0]} changes {changed}.")


def class_keeps_the_contract(under_test: UnderTest) -> None:
    """`factory` names a subclass of `Modality` with `prepare`, `encode` and `example`, arguments as in the contract."""
    class_of(under_test)


def building_is_offline(under_test: UnderTest) -> None:
    """`__init__` opens no connection and touches no GPU, with every set of test options."""
    device_was_used = torch.cuda.is_initialized()
    for options in cases(under_test):
        with offline() as tried:
            fault: Exception | None = None
            try:
                class_of(under_test)(options, context())
            except OSError as error:
                fault = error
        require(not tried, f"__init__ needs the network for {', '.join(tried)} with {options!r}.")
        if fault is not None:
            raise fault
    require(torch.cuda.is_initialized() == device_was_used, "__init__ touches the GPU.")


NUM_EXAMPLES = 3


def prepare_gives_cpu_tensors(under_test: UnderTest) -> None:
    """`prepare(example)` gives a `Sample` of finite CPU tensors `(T, ...)` of one length, without gradient."""
    for modality in modalities(under_test):
        with conforming():
            prepared(under_test, modality, 0)


def clock_is_declared(under_test: UnderTest) -> None:
    """`Sample.times` is given only if the spec declares `timestamps`: `(T, 2)` float32 seconds, ends after starts."""
    found = [prepared(under_test, modality, 0) for modality in modalities(under_test)]
    clocks = [sample for sample in found if sample.times is not None]
    require(
        under_test.spec.capabilities.timestamps or not clocks,
        "prepare returns times, and the spec does not declare them.",
    )
    for sample in clocks:
        assert sample.times is not None
        require(
            sample.times.dtype == torch.float32 and sample.times.shape == (num_steps(sample), 2),
            f"times are {sample.times.dtype} {tuple(sample.times.shape)}. They are float32 ({num_steps(sample)}"
            ", 2): start and end of every step.",
        )
        require(bool((sample.times[:, 1] > sample.times[:, 0]).all()), "A step ends before it starts.")


def examples_differ(under_test: UnderTest) -> None:
    """`example(generator)` draws from the generator: other seeds give other samples."""
    for modality in modalities(under_test):
        samples = [prepared(under_test, modality, seed) for seed in range(NUM_EXAMPLES)]
        require(
            not any(equal(samples[0], other) for other in samples[1:]),
            "example() gives the same sample for other seeds.",
        )


def prepare_is_deterministic(under_test: UnderTest) -> None:
    """The same source gives the same sample every time."""
    for modality in modalities(under_test):
        samples = [prepared(under_test, modality, 0) for _ in range(2)]
        require(equal(*samples), "prepare() gives another sample for the same source.")


def prepare_leaves_the_source(under_test: UnderTest) -> None:
    """`prepare` does not change the array or tensor it is given."""
    for modality in modalities(under_test):
        given = source(modality, 0)
        before = copy.deepcopy(given)
        under_test.batch = _example(0)
        modality_calls.prepare(modality, given)
        require(same(given, before), "prepare() changes the source it was given.")


def samples_pickle(under_test: UnderTest) -> None:
    """A `Sample` survives pickling."""
    for modality in modalities(under_test):
        sample = prepared(under_test, modality, 0)
        require(equal(sample, pickle.loads(pickle.dumps(sample))), "A sample is another one after pickling.")


def modality_pickles(under_test: UnderTest) -> None:
    """The modality itself survives pickling, without a copy of the backbone."""
    for modality in modalities(under_test):
        copy = pickle.loads(pickle.dumps(modality))
        require(copy.context.vision is None, "The pickled modality carries the backbone.")


def prepare_works_in_a_fresh_process(under_test: UnderTest) -> None:
    """A process that knows nothing but the pickled modality prepares the same sample."""
    modality = next(modalities(under_test))
    under_test.batch = _example(0)
    job = pickle.dumps((modality, source(modality, 0)))
    outcome = heavy_import(under_test.spec.factory.partition(":")[0], job)
    require(outcome["fault"] is None, f"prepare() fails in a worker process:\n{outcome['fault']}")
    sample: Sample = pickle.loads(outcome["sample"])
    require(equal(sample, prepared(under_test, modality, 0)), "prepare() gives another sample in a worker process.")


def running_is_offline(under_test: UnderTest) -> None:
    """`prepare` and `encode` open no connection."""
    for modality in modalities(under_test):
        with offline() as tried:
            under_test.batch = _example(0)
            encode_source(modality)
        require(not tried, f"prepare() or encode() needs the network for {', '.join(tried)}.")


def process_state_is_untouched(under_test: UnderTest) -> None:
    """Building, preparing and encoding leave random generators, defaults, environment and logging as they were."""
    for options in cases(under_test):
        under_test.batch = _example(0)
        with fresh_generators():
            before = snapshot()
            modality = build_alone(under_test, options)
            # Core seeds torch's generator around `__init__`, so an encoder may draw its weights from it.
            changed = set(changes(before, snapshot())) - {"the random generator of torch"}
            before = snapshot()
            encode_source(modality)
            changed |= set(changes(before, snapshot()))
        require(not changed, f"The modality changes {', '.join(sorted(changed))}.")


def encode_keeps_the_contract(under_test: UnderTest) -> None:
    """`encode` gives finite floats `(B, T, N, feature_dim)`, a bool mask `(B, T)` or `(B, T, N)`, no row all masked."""
    for modality in modalities(under_test):
        samples = [prepared(under_test, modality, 0), prepared(under_test, modality, 1)]
        with conforming():
            encoded(under_test, modality, samples)


def encode_is_deterministic(under_test: UnderTest) -> None:
    """The same batch gives the same features, bit for bit, where the spec declares `deterministic` (the default)."""
    if not under_test.spec.capabilities.deterministic:
        return
    for modality in modalities(under_test):
        sample = prepared(under_test, modality, 0)
        require(
            torch.equal(encoded(under_test, modality, [sample]).values, encoded(under_test, modality, [sample]).values),
            "encode() gives other features for the same batch. deterministic=True is declared.",
        )


def features_ignore_the_other_samples(under_test: UnderTest) -> None:
    """A sample gives the same features alone, beside others, and beside longer ones."""
    for modality in modalities(under_test):
        samples = [prepared(under_test, modality, seed) for seed in range(3)]
        together = encoded(under_test, modality, [samples[0], samples[1], doubled(samples[2])])
        for row, sample in enumerate(samples[:2]):
            alone = encoded(under_test, modality, [sample])
            _, steps, tokens, _ = alone.values.shape
            real = token_mask(alone)[0]
            wanted = alone.values[0][real]
            difference = (together.values[row, :steps, :tokens][real] - wanted).abs().max().item()
            # Rounding grows with what is rounded: features of a hundred differ by a hundred times as much.
            limit = MAX_DIFFERENCE * max(1.0, wanted.abs().max().item())
            require(
                difference <= limit,
                f"Features of a sample differ by {difference:.2g} beside others. Accepted is {limit:.2g}.",
            )


def encode_keeps_the_clock(under_test: UnderTest) -> None:
    """`Features.times` has the times that `prepare` gave."""
    for modality in modalities(under_test):
        sample = prepared(under_test, modality, 0)
        if sample.times is None:
            continue
        times = encoded(under_test, modality, [sample]).times
        require(
            times is not None and times[0].shape == sample.times.shape and torch.allclose(times[0], sample.times),
            "encode() drops or changes the times of the steps.",
        )


def padding_is_masked(under_test: UnderTest) -> None:
    """The mask has no token behind a sample's end."""
    for modality in modalities(under_test):
        sample = prepared(under_test, modality, 0)
        mask = token_mask(encoded(under_test, modality, [sample, doubled(sample)]))
        require(
            not bool(mask[0, num_steps(sample) :].any()),
            f"Steps behind a sample's end ({num_steps(sample)}) count as real.",
        )


def small_batches_work(under_test: UnderTest) -> None:
    """A batch of one sample of one step works, and one of no sample gives no features."""
    for modality in modalities(under_test):
        sample = first_step(prepared(under_test, modality, 0))
        with conforming():
            encoded(under_test, modality, [sample])
        batch = modality_calls.collate(modality, [sample])
        nothing = Batch(
            {name: tensor[:0] for name, tensor in batch.tensors.items()},
            batch.mask[:0],
            {name: size[:0] for name, size in batch.sizes.items()},
            None if batch.times is None else batch.times[:0],
        )
        with conforming():
            encoded_batch(under_test, modality, nothing)


def encoder_stays_in_eval_mode(under_test: UnderTest) -> None:
    """`train()` leaves the modality and all its parts in eval mode, a trainable one while it is not trained."""
    for modality in modalities(under_test):
        freeze(modality)
        training = [name or "the modality" for name, part in modality.train().named_modules() if part.training]
        modality.eval()
        set_trainable(modality, {name for name, _ in modality.named_parameters()})
        require(not training, f"After train(), {', '.join(training)} are in train mode.")


WRONG: tuple[object, ...] = (None, 3, {"x": 1})
ABSENT = "no/such/place/recording.0917"


def wrong_sources_are_refused(under_test: UnderTest) -> None:
    """None, a number and a dict are refused with `MediaError`."""
    for modality in modalities(under_test):
        for given in WRONG:
            under_test.batch = f"the source {given!r}"
            error = _refusal(modality, given)
            require(isinstance(error, MediaError), f"prepare({given!r}) gives {_named(error)}.")


def missing_files_are_named(under_test: UnderTest) -> None:
    """A file that does not exist is refused with a `MediaError` that has its path."""
    for modality in modalities(under_test):
        under_test.batch = f"the source {ABSENT!r}"
        error = _refusal(modality, ABSENT)
        require(isinstance(error, MediaError) and ABSENT in str(error), f"prepare('{ABSENT}') gives {_named(error)}.")


def damaged_files_are_refused(under_test: UnderTest) -> None:
    """For every declared file ending, empty files, random bytes, web pages and other endings give a `MediaError`.

    A file that is cut off gives one too, or the sample of what is left. A declared `any_bytes` excuses random bytes and
    web pages. They are read in another process, because a reader in native code may crash.
    """
    module = under_test.spec.factory.partition(":")[0]
    endings = {suffix: kind.any_bytes for kind in under_test.spec.inputs for suffix in kind.suffixes}
    with tempfile.TemporaryDirectory() as folder:
        for number, modality in enumerate(modalities(under_test)):
            given, declared = source(modality, 0), frozenset(endings)
            files = {
                str(file.path): (suffix, file)
                for suffix in endings
                for file in damaged_files(Path(folder) / f"{number}{suffix}", suffix, example=given, declared=declared)
            }
            under_test.batch = "damaged files"
            readings = read_files(module, modality, list(files))
            if readings is None:
                readings = [_read_here(modality, path) for path in files]
            for reading in readings:
                suffix, file = files[reading.path]
                under_test.batch = f"damaged {suffix} files"
                may_pass = reading.is_read and (file.may_be_read or (endings[suffix] and not file.is_always_refused))
                require(reading.is_refused or may_pass, f"prepare() of {file.what} gives {reading.text}.")


def _refusal(modality: Modality, given: object) -> BaseException | None:
    try:
        modality.prepare(given)  # not through core's border, which would add what the message lacks
    except (Exception, SystemExit) as error:  # noqa: BLE001 - which one it is, is the question
        return error
    return None


def _read_here(modality: Modality, path: str) -> Reading:
    try:
        modality_calls.prepare(modality, path)
    except CremaError as error:
        refused = isinstance(error, MediaError | MissingRequirementError)
        return Reading(path, is_read=False, is_refused=refused, text=_named(error))
    return Reading(path, is_read=True, text="no error")


def _named(error: BaseException | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {error}"


def class_of(under_test: UnderTest) -> type[Modality]:
    """Return the modality's class."""
    return under_test.once("class", lambda: _load_class(under_test))


def _load_class(under_test: UnderTest) -> type[Modality]:
    module = under_test.spec.factory.partition(":")[0]
    if module not in sys.modules and _first_import(under_test)["is_gone"]:
        fault = _first_import(under_test)["fault"]
        raise ConformanceError(f"Importing {module} was tried in a process of its own: {fault}.")
    return load_modality_class(under_test.plugin)


def _first_import(under_test: UnderTest) -> dict[str, Any]:
    """Return what the import of the class's module does in a process of its own."""
    return under_test.once("heavy import", lambda: heavy_import(under_test.spec.factory.partition(":")[0]))


def context() -> BuildContext:
    """Return what a modality is built with."""
    return BuildContext(vision=vision, vision_dim=VISION_DIM, image_size=IMAGE_SIZE)


def build_alone(under_test: UnderTest, options: ModalityOptions) -> Modality:
    """Build the modality without a model and without network."""
    with offline():
        return modality_calls.construct(under_test.plugin, options, context()).eval()


def cases(under_test: UnderTest) -> Iterator[ModalityOptions]:
    """Yield every set of test options; messages say which one is tried."""
    for number, options in enumerate(under_test.cases):
        under_test.options, under_test.batch = under_test.case(number), ""
        yield options


def modalities(under_test: UnderTest) -> Iterator[Modality]:
    """Yield the modality built with every set of test options."""
    for number, options in enumerate(cases(under_test)):
        yield under_test.once(f"modality {number}", lambda options=options: build_alone(under_test, options))  # type: ignore[misc]


def prepared(under_test: UnderTest, modality: Modality, seed: int) -> Sample:
    """Return the sample of a synthetic source."""
    under_test.batch = _example(seed)
    with offline():
        return modality_calls.prepare(modality, source(modality, seed))


def _example(seed: int) -> str:
    return f"example(torch.Generator().manual_seed({seed}))"


def encoded(under_test: UnderTest, modality: Modality, samples: list[Sample]) -> Features:
    """Collate and encode, as core does: without gradient."""
    shapes = ["; ".join(f"{name} {tuple(own.shape)}" for name, own in sample.tensors.items()) for sample in samples]
    under_test.batch = f"{len(samples)} sample{'s' * (len(samples) > 1)}: {', '.join(shapes)}"
    return encoded_batch(under_test, modality, modality_calls.collate(modality, samples))


def encoded_batch(under_test: UnderTest, modality: Modality, batch: Batch) -> Features:
    """Encode without gradient and without network."""
    if not len(batch.mask):
        under_test.batch = "no sample"
    with offline():
        return modality_calls.encode(modality, batch)


@torch.no_grad()
def encode_source(modality: Modality) -> None:
    """Prepare, collate and encode a synthetic source; what comes out is looked at by other checks."""
    modality.encode(modality.collate([modality.prepare(source(modality, 0))]))


@contextmanager
def conforming() -> Iterator[None]:
    """Report what core's own border finds as this check's finding."""
    try:
        yield
    except ContractError as error:
        raise ConformanceError(str(error)) from error


def doubled(sample: Sample) -> Sample:
    """Return a sample twice as long, on the clock of one twice as long."""
    times = sample.times
    longer = None if times is None else torch.cat([times, times + times.max()])
    return Sample({name: torch.cat([tensor, tensor]) for name, tensor in sample.tensors.items()}, longer)


def first_step(sample: Sample) -> Sample:
    """Return a sample of the first step alone."""
    times = None if sample.times is None else sample.times[:1]
    return Sample({name: tensor[:1] for name, tensor in sample.tensors.items()}, times)


def num_steps(sample: Sample) -> int:
    """Return the number of steps T."""
    return int(next(iter(sample.tensors.values())).shape[0])


def equal(first: Sample, second: Sample) -> bool:
    """Whether two samples hold the same values."""
    return same(first.tensors, second.tensors)


def same(first: object, second: object) -> bool:
    """Whether two sources hold the same values: arrays, tensors, or lists, tuples and dicts of them."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def token_mask(features: Features) -> Tensor:
    """Return the mask as `(B, T, N)`."""
    mask = features.mask
    return mask if mask.dim() == 3 else mask[..., None].expand(features.values.shape[:3])
