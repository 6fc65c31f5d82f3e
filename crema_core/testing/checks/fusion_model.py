"""Gold: the fusion trains in a model, is saved and loaded, and takes a further modality."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.model.trainable import names_of, set_trainable
from crema_core.testing.check import check, require
from crema_core.testing.companion import CLOCKED
from crema_core.testing.fusion_bench import (
    MAJOR,
    NAMES,
    PLAIN,
    QUESTION,
    TIMED,
    build_with,
    cases,
    difference,
    known,
    lay_out,
    sample,
    stretches,
    tokens_of,
)
from crema_core.testing.offline import offline
from crema_core.testing.subject import FusionUnderTest

READY = ("samples_ignore_each_other", "layout_is_deterministic")


@check("gold", needs=READY, kinds=("fusion",))
def parameters_are_declared(subject: FusionUnderTest) -> None:
    """Every parameter belongs to one modality (`blocks.<name>.`) or to all; none exists with one modality alone.

    Why: each modality's part is trained, saved and shared with its adapter; a parameter that nothing can use would be
    trained in vain and make two saved models differ.
    Fix: create what belongs to a modality in `make_block` as `self.blocks[name]`, and what all share in `make_shared`.
    """
    for options in cases(subject):
        model = build_with(subject, options)
        fusion = model.fusion
        strangers = sorted(name for name in fusion.blocks if name not in (PLAIN, TIMED))
        require(
            not strangers,
            f"There are blocks of {', '.join(strangers)}{_with(options)}. A block belongs to a supporting modality. "
            "Name it so in make_block().",
        )
        left = sorted(name for name, _ in build_with(subject, options, (MAJOR,)).fusion.named_parameters())
        require(
            not left,
            f"With one modality alone it has the parameters {', '.join(left[:3])}{_with(options)}. There is nothing to "
            "fuse then. Create them in make_shared().",
        )


@check("gold", needs=("parameters_are_declared",), kinds=("fusion",))
def gradients_reach_what_is_declared(subject: FusionUnderTest) -> None:
    """With all modalities in a batch, gradients reach every parameter of the fusion; without one, not its block.

    Why: what has no gradient never learns; a block that learns from samples without its modality learns padding.
    Fix: no `detach()` and no `no_grad()` in `forward`; mask what a sample does not have before it is mixed.
    """
    for options in cases(subject):
        model = build_with(subject, options)
        own = dict(model.fusion.named_parameters())
        if not own:
            continue
        reached = _reached(model, NAMES)
        missing = sorted(own.keys() - reached)
        require(
            not missing,
            f"No gradient reaches {', '.join(missing[:3])} of the fusion{_with(options)}. Every parameter takes part. "
            "Look for detach() and parameters that forward() does not use.",
        )
        foreign = sorted(name for name in _reached(model, (MAJOR, PLAIN)) if name.startswith(f"blocks.{TIMED}."))
        require(
            not foreign,
            f"Gradients reach {', '.join(foreign[:3])} where no sample has '{TIMED}'{_with(options)}. A block learns "
            "from its own modality alone. Leave blocks of absent modalities out.",
        )


@check("gold", needs=READY, kinds=("fusion",))
def saved_and_loaded_it_lays_out_the_same(subject: FusionUnderTest) -> None:
    """A saved and loaded model lays out every sample the same, bit for bit.

    Why: what the fusion keeps outside of its parameters and options is not in the saved model.
    Fix: make what differs an option (a keyword argument of `__init__`) or a parameter; no random numbers or counters
    elsewhere.
    """
    for options in cases(subject):
        model = build_with(subject, options)
        _move(model)
        with tempfile.TemporaryDirectory() as folder, known(subject), offline():
            model.save_pretrained(Path(folder) / "model")
            loaded = load(Path(folder) / "model")
        found = difference(*(_layout(one, NAMES) for one in (loaded, model)), exactly=True)
        require(
            found is None,
            f"A loaded model lays a sample out otherwise than the saved one{_with(options)}: {found}. They must be "
            "equal. Make what differs a parameter or an option.",
        )


@check("gold", needs=READY, kinds=("fusion",))
def other_modalities_stay_bit_identical(subject: FusionUnderTest) -> None:
    """Adding a modality changes no parameter that was there, and no layout of a sample without it.

    Why: a trained model must be extensible without measuring it again.
    Fix: keep a modality's weights in its own block; `make_block` touches nothing that is shared.
    """
    for options in cases(subject):
        model = build_with(subject, options, (MAJOR, PLAIN))
        _move(model)
        before = {name: own.detach().clone() for name, own in model.fusion.named_parameters()}
        layouts = [_layout(model, chosen) for chosen in ((MAJOR,), (PLAIN,), (MAJOR, PLAIN))]
        _add(subject, model)
        own = dict(model.fusion.named_parameters())
        changed = [name for name, value in before.items() if name not in own or not torch.equal(own[name], value)]
        require(
            not changed,
            f"Adding a modality changes {', '.join(changed[:3])}{_with(options)}. Others stay as they are. Change "
            "nothing in make_block() but the new block.",
        )
        after = [_layout(model, chosen) for chosen in ((MAJOR,), (PLAIN,), (MAJOR, PLAIN))]
        found = [difference(one, other, exactly=True) for one, other in zip(after, layouts, strict=True)]
        require(
            found == [None] * len(found),
            f"After adding a modality, samples without it are laid out otherwise{_with(options)}: "
            f"{next(filter(None, found), '')}. Others stay bit-identical. Divide by nothing that counts modalities.",
        )


@check("gold", needs=("other_modalities_stay_bit_identical",), kinds=("fusion",))
def an_added_modality_starts_at_zero(subject: FusionUnderTest) -> None:
    """Where `starts_at_zero` is declared, a modality just added changes nothing beside another supporting one.

    Why: a trained model goes on as it was until the new part is trained.
    Fix: with `zero=True`, `make_block` creates weights whose output is zero; or leave `starts_at_zero` False.
    """
    if not subject.strategy.starts_at_zero:
        return
    for options in cases(subject):
        model = build_with(subject, options, (MAJOR, PLAIN))
        _move(model)
        _add(subject, model)
        found = difference(_layout(model, NAMES), _layout(model, (MAJOR, PLAIN)), exactly=True)
        require(
            found is None,
            f"A modality just added changes the layout{_with(options)}: {found}. starts_at_zero is declared. Start "
            "blocks of zero=True at zero, or declare it False.",
        )


def _with(options: Mapping[str, Any]) -> str:
    return f" (options {dict(options)})" if options else ""


def _move(model: CremaModel) -> None:
    """Give the fusion weights that no start has."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def _add(subject: FusionUnderTest, model: CremaModel) -> None:
    with known(subject), offline():
        model.add_modality({"name": CLOCKED})


def _layout(model: CremaModel, chosen: tuple[str, ...]) -> list[Any]:
    return stretches(lay_out(model, [sample(chosen, 0)]), 0)


def _reached(model: CremaModel, chosen: tuple[str, ...]) -> set[str]:
    """Return the names of the fusion's parameters whose gradient is not zero after one backward pass."""
    _move(model)  # a block that starts at zero may hide the gradients of others
    own = dict(model.fusion.named_parameters())
    set_trainable(model, names_of(model, own.values()))
    model.zero_grad()
    samples = [sample(chosen, seed) for seed in range(2)]
    answers = [model.template.target(answer, ()) for answer in ("red", "blue")]
    model.loss(tokens_of(model, samples), [QUESTION] * len(samples), answers).backward()
    return {name for name, one in own.items() if one.grad is not None and bool(one.grad.any())}
