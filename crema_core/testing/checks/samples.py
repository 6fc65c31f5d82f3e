"""Silver: what `prepare` makes of a source."""

from __future__ import annotations

import copy

import torch

from crema_core.modality import Sample
from crema_core.testing.bench import equal, modalities, num_steps, prepared, same, source
from crema_core.testing.check import check, require
from crema_core.testing.subject import Subject

BUILT = ("building_is_offline",)
NUM_EXAMPLES = 3


@check("silver", needs=BUILT)
def prepare_gives_cpu_tensors(subject: Subject) -> None:
    """`prepare(example)` gives a `Sample` of finite CPU tensors `(T, ...)` of one length, without gradient.

    Why: samples travel from worker processes and are padded along every dimension, time first.
    Fix: give every tensor the time dimension (1 for a source without time), on the CPU, and refuse sources that hold
    no finite numbers with a `MediaError`.
    """
    for modality in modalities(subject):
        sample = prepared(modality, 0)
        require(isinstance(sample, Sample), f"prepare returned a {type(sample).__name__}. Return Sample({{...}}).")
        require(bool(sample.tensors), "prepare returned no tensor. A sample has at least one. Return Sample({...}).")
        lengths = {name: tuple(tensor.shape[:1]) for name, tensor in sample.tensors.items()}
        require(
            len(set(lengths.values())) == 1 and () not in lengths.values() and (0,) not in lengths.values(),
            f"prepare returned tensors of {lengths} steps. All have one length T of at least 1, first. "
            "Give each the time dimension.",
        )
        for name, tensor in sample.tensors.items():
            require(
                tensor.device.type == "cpu" and not tensor.requires_grad,
                f"'{name}' is on {tensor.device}, requires_grad={tensor.requires_grad}. Samples are plain CPU tensors. "
                "Leave devices and gradients to core.",
            )
            require(bool(torch.isfinite(tensor).all()), f"'{name}' has numbers that are not finite. Refuse or fill.")


@check("silver", needs=("prepare_gives_cpu_tensors",))
def clock_is_declared(subject: Subject) -> None:
    """`Sample.times` is given only if the spec declares `timestamps`: `(T, 2)` float32 seconds, ends after starts.

    Why: fusion averages steps within the time span of each frame of the major sense, and trusts this clock.
    Fix: add `timestamps=True` to the spec's capabilities, one row per step, or leave `times` out.
    """
    found = [prepared(modality, 0) for modality in modalities(subject)]
    clocks = [sample for sample in found if sample.times is not None]
    require(
        subject.spec.capabilities.timestamps or not clocks,
        "prepare returns times, and the spec does not declare them. Both must agree. Write "
        "Capabilities(timestamps=True), or leave times out.",
    )
    for sample in clocks:
        assert sample.times is not None
        require(
            sample.times.dtype == torch.float32 and sample.times.shape == (num_steps(sample), 2),
            f"times are {sample.times.dtype} {tuple(sample.times.shape)}. They are float32 ({num_steps(sample)}, 2): "
            "start and end of every step. Return one row per step.",
        )
        require(
            bool((sample.times[:, 1] > sample.times[:, 0]).all()),
            "A step ends before it starts. Times are (start, end) in seconds. Order them so.",
        )


@check("silver", needs=("prepare_gives_cpu_tensors",))
def examples_differ(subject: Subject) -> None:
    """`example(generator)` draws from the generator: other seeds give other samples.

    Why: checks and examples that see one constant source prove nothing.
    Fix: use the generator in `example`: `torch.rand(4, 64, generator=generator)`.
    """
    for modality in modalities(subject):
        samples = [prepared(modality, seed) for seed in range(NUM_EXAMPLES)]
        require(
            not any(equal(samples[0], other) for other in samples[1:]),
            "example() gives the same sample for other seeds. Sources must differ. Draw from the generator.",
        )


@check("silver", needs=("prepare_gives_cpu_tensors",))
def prepare_is_deterministic(subject: Subject) -> None:
    """The same source gives the same sample every time.

    Why: features are cached and runs resumed; augmentation at random would make both wrong without a word.
    Fix: draw nothing at random in `prepare`; where sampling is needed, seed a generator of its own with a constant.
    """
    for modality in modalities(subject):
        require(
            equal(prepared(modality, 0), prepared(modality, 0)),
            "prepare() gives another sample for the same source. It must be constant. Seed a generator of its own.",
        )


@check("silver", needs=("prepare_gives_cpu_tensors",))
def prepare_leaves_the_source(subject: Subject) -> None:
    """`prepare` does not change the array or tensor it is given.

    Why: the user's own data would change under their hands, and a second reading would see other values.
    Fix: copy before writing: `values = source.clone()`.
    """
    for modality in modalities(subject):
        given = source(modality, 0)
        before = copy.deepcopy(given)
        modality.prepare(given)
        require(
            same(given, before),
            "prepare() changes the source it was given. Sources belong to the user. Copy before writing.",
        )
