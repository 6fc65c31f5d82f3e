"""Silver: what `encode` makes of a batch."""

from __future__ import annotations

import torch

from crema_core.modality import Batch, Features
from crema_core.testing.bench import (
    MAX_DIFFERENCE,
    doubled,
    encoded,
    encoded_batch,
    first_step,
    modalities,
    num_steps,
    prepared,
    token_mask,
)
from crema_core.testing.check import check, require
from crema_core.testing.subject import Subject

ENCODED = ("encode_keeps_the_contract",)


@check("silver", needs=("prepare_gives_cpu_tensors",))
def encode_keeps_the_contract(subject: Subject) -> None:
    """`encode` gives finite floats `(B, T, N, feature_dim)` and a bool mask `(B, T)` or `(B, T, N)`, no row all masked.

    Why: the adapter is made for this width, and fusion for these steps.
    Fix: the message has both shapes; correct `encode` or `feature_dim`.
    """
    for modality in modalities(subject):
        features = encoded(modality, [prepared(modality, 0), prepared(modality, 1)])
        require(
            isinstance(features, Features),
            f"encode returned a {type(features).__name__}. Return Features(values, mask).",
        )
        shape, width = tuple(features.values.shape), modality.feature_dim
        require(
            len(shape) == 4 and shape[0] == 2 and shape[3] == width,
            f"encode returned {shape} for 2 samples. The contract is (2, steps, tokens, {width}); feature_dim is "
            f"{width}. Correct encode() or feature_dim.",
        )
        require(
            features.mask.dtype == torch.bool and tuple(features.mask.shape) in (shape[:2], shape[:3]),
            f"The mask is {features.mask.dtype} {tuple(features.mask.shape)}. It is bool {shape[:2]} or {shape[:3]}. "
            "Return Features(values, batch.mask).",
        )
        require(
            features.values.is_floating_point() and bool(torch.isfinite(features.values).all()),
            f"The features are {features.values.dtype} and not all finite. They are finite floats. Look for divisions "
            "by zero in padded places.",
        )
        require(
            bool(token_mask(features).any(dim=(1, 2)).all()),
            "A sample has no real token. A present sense has at least one. Refuse empty sources in prepare().",
        )


@check("silver", needs=ENCODED)
def encode_is_deterministic(subject: Subject) -> None:
    """The same batch gives the same features, bit for bit, where the spec declares `deterministic` (the default).

    Why: encoders run once and their features are cached.
    Fix: no dropout and no sampling in `encode`; declare `Capabilities(deterministic=False)` where a library cannot.
    """
    if not subject.spec.capabilities.deterministic:
        return
    for modality in modalities(subject):
        sample = prepared(modality, 0)
        require(
            torch.equal(encoded(modality, [sample]).values, encoded(modality, [sample]).values),
            "encode() gives other features for the same batch. deterministic=True is declared. Draw nothing at random, "
            "or declare it False.",
        )


@check("silver", needs=(*ENCODED, "encode_is_deterministic"))
def features_ignore_the_other_samples(subject: Subject) -> None:
    """A sample gives the same features alone, beside others, and beside longer ones.

    Why: answers would depend on what else happens to be in the batch. Padding that leaks is the usual reason.
    Fix: no statistics over the batch; use `batch.mask` and `batch.sizes` wherever values of several steps are mixed.
    """
    for modality in modalities(subject):
        samples = [prepared(modality, seed) for seed in range(3)]
        together = encoded(modality, [samples[0], samples[1], doubled(samples[2])])
        for row, sample in enumerate(samples[:2]):
            alone = encoded(modality, [sample])
            _, steps, tokens, _ = alone.values.shape
            real = token_mask(alone)[0]
            wanted = alone.values[0][real]
            difference = (together.values[row, :steps, :tokens][real] - wanted).abs().max().item()
            # Rounding grows with what is rounded: features of a hundred differ by a hundred times as much.
            limit = MAX_DIFFERENCE * max(1.0, wanted.abs().max().item())
            require(
                difference <= limit,
                f"Features of a sample differ by {difference:.2g} beside others. Accepted is "
                f"{limit:.2g}. Keep padding out with batch.mask and batch.sizes.",
            )


@check("silver", needs=("encode_keeps_the_contract", "clock_is_declared"))
def encode_keeps_the_clock(subject: Subject) -> None:
    """`Features.times` has the times that `prepare` gave.

    Why: without them fusion can only spread the steps evenly over the frames.
    Fix: `Features(values, mask, batch.times)`.
    """
    for modality in modalities(subject):
        sample = prepared(modality, 0)
        if sample.times is None:
            continue
        times = encoded(modality, [sample]).times
        require(
            times is not None and times[0].shape == sample.times.shape and torch.allclose(times[0], sample.times),
            "encode() drops or changes the times of the steps. Features carry them on. Return Features(values, mask, "
            "batch.times).",
        )


@check("silver", needs=ENCODED)
def padding_is_masked(subject: Subject) -> None:
    """The mask has no token behind a sample's end.

    Why: fusion and the Q-Former read every token whose mask is True.
    Fix: `Features(values, batch.mask)`, or a `(B, T, N)` mask made of `batch.mask` and `batch.sizes`.
    """
    for modality in modalities(subject):
        sample = prepared(modality, 0)
        mask = token_mask(encoded(modality, [sample, doubled(sample)]))
        require(
            not bool(mask[0, num_steps(sample) :].any()),
            f"Steps behind a sample's end ({num_steps(sample)}) count as real. Padding is False in the mask. Return "
            "batch.mask.",
        )


@check("silver", needs=ENCODED)
def small_batches_work(subject: Subject) -> None:
    """A batch of one sample of one step works, and one of no sample gives no features.

    Why: the last batch of a data set is small, and one rank's share of it may be empty.
    Fix: no `squeeze()` without a dimension you know; no division by the number of samples.
    """
    for modality in modalities(subject):
        sample = first_step(prepared(modality, 0))
        features = encoded(modality, [sample])
        shape = tuple(features.values.shape)
        require(
            len(shape) == 4 and shape[0] == 1 and bool(torch.isfinite(features.values).all()),
            f"One sample of one step gives {shape}. The contract is (1, steps, tokens, {modality.feature_dim}), "
            "finite. Look for squeeze() and for spreads over one step.",
        )
        batch = modality.collate([sample])
        nothing = Batch(
            {name: tensor[:0] for name, tensor in batch.tensors.items()},
            batch.mask[:0],
            {name: size[:0] for name, size in batch.sizes.items()},
            None if batch.times is None else batch.times[:0],
        )
        empty = tuple(encoded_batch(modality, nothing).values.shape)
        require(
            len(empty) == 4 and empty[0] == 0,
            f"No sample gives features {empty}. The contract is (0, steps, tokens, {modality.feature_dim}). Keep the "
            "first dimension.",
        )


@check("silver", needs=("building_is_offline",))
def encoder_stays_in_eval_mode(subject: Subject) -> None:
    """`train()` leaves the sense and all its parts in eval mode.

    Why: dropout and batch statistics of a frozen encoder would change its features while training.
    Fix: do not override `train`.
    """
    for modality in modalities(subject):
        training = [name or "the sense" for name, part in modality.train().named_modules() if part.training]
        modality.eval()
        require(
            not training,
            f"After train(), {', '.join(training)} are in train mode. Encoders are frozen. Leave train() as Modality "
            "has it.",
        )
