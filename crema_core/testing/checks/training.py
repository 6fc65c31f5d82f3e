"""Gold: the sense learns in a model, and only what may learn does."""

from __future__ import annotations

import torch

from crema_core.model.trainable import names_of, set_trainable
from crema_core.testing.check import check, require
from crema_core.testing.subject import Subject
from crema_core.testing.workbench import TOLD_APART, batches, build_own, loss_of, trial


@check("gold", needs=("declaration_is_json", "prepare_is_deterministic", "encode_is_deterministic"))
def building_is_reproducible(subject: Subject) -> None:
    """Two models built with one seed give the same features.

    Why: a saved model holds the adapter, not your encoder; random weights that differ would make it worthless.
    Fix: draw random weights from torch's generator in `__init__` (core seeds it) or from one with a constant seed;
    load trained ones in `load_assets`.
    """
    name = subject.spec.name
    models = [build_own(subject), build_own(subject)]
    first, second = (model.encode(batches(model, name))[name].features.values for model in models)
    require(
        torch.equal(first, second),
        "Two models built with one seed give other features. Encoders must be built alike. Seed what __init__ draws.",
    )


@check("gold", needs=("building_is_reproducible",))
def encoder_is_frozen(subject: Subject) -> None:
    """Training the adapter changes no weight and no buffer of the sense.

    Why: frozen encoders run once and are cached; one that drifts gives other features than the cache holds.
    Fix: no running statistics, counters or in-place changes in `encode`.
    """
    moved = trial(subject).moved
    require(
        not moved,
        f"Training changed {', '.join(moved)} of the encoder. Encoders are frozen. Change nothing in encode().",
    )


@check("gold", needs=("building_is_reproducible",))
def gradients_stay_in_the_adapter(subject: Subject) -> None:
    """Gradients reach every parameter of the sense's adapter and nothing else.

    Why: the sense's encoder and the backbone are frozen; memory and time are planned on that.
    Fix: do not enable gradients inside `encode`, and do not touch `requires_grad`.
    """
    found = trial(subject)
    outside, without = sorted(found.with_gradient - found.adapter), sorted(found.adapter - found.with_gradient)
    require(
        not outside,
        f"Gradients reach {', '.join(outside[:3])}, which is frozen. Only the adapter trains. Leave gradients to core.",
    )
    require(
        not without,
        f"No gradient reaches {', '.join(without[:3])} of the adapter. Every part takes part. Look at the features.",
    )


@check("gold", needs=("building_is_reproducible", "gradients_stay_in_the_adapter", "examples_differ"))
def loss_falls(subject: Subject) -> None:
    """The adapter learns to tell two examples apart on the tiny backbone.

    Why: a sense whose features do not depend on the source trains without an error and learns nothing. One question
    with two answers cannot be learnt without looking at the source.
    Fix: look at the features of two examples; scale them to about 1, and check that `encode` uses what `prepare` read.
    """
    losses = trial(subject).losses
    require(
        losses[-1] < TOLD_APART,
        f"After {len(losses)} steps the loss is {losses[-1]:.3f} (it began at {losses[0]:.3f}). Two examples are told "
        f"apart below {TOLD_APART:.3f}. Look whether features depend on the source, and at their scale.",
    )


@check("gold", needs=("building_is_reproducible", "gradients_stay_in_the_adapter"))
def bf16_autocast_works(subject: Subject) -> None:
    """Encoding, loss and gradients are finite under `torch.autocast` with bf16.

    Why: it is the usual way to train on a GPU.
    Fix: let results take the dtype of what they are computed from: `torch.zeros_like(values)`, not a fixed float32
    that a bf16 result is written into.
    """
    model, name = build_own(subject), subject.spec.name
    parameters = list(model.adapter_parameters(name).values())
    set_trainable(model, names_of(model, parameters))
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, name, batches(model, name))
    loss.backward()
    finite = all(bool(own.grad.isfinite().all()) for own in parameters if own.grad is not None)
    require(
        bool(loss.isfinite()) and finite,
        f"Under bf16 autocast the loss is {float(loss.detach())}, gradients are {'' if finite else 'not '}finite. Both "
        "must be finite. Look for sums and exponentials that overflow.",
    )
