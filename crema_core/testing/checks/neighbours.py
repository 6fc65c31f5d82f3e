"""Gold: models with the sense are saved and loaded whole, and leave the other senses alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crema_core.api.load import load
from crema_core.plugins import registry
from crema_core.testing.check import check, require
from crema_core.testing.companion import COMPANION
from crema_core.testing.subject import Subject
from crema_core.testing.workbench import build_model, build_own, request, scores

REPRODUCIBLE = ("building_is_reproducible",)


@check("gold", needs=REPRODUCIBLE)
def saved_and_loaded_it_answers_the_same(subject: Subject) -> None:
    """A saved and loaded model gives the same scores, bit for bit.

    Why: what the package keeps outside its options is not in the saved model.
    Fix: make everything that changes features an option that is written to JSON, and give options no `exclude`.
    """
    model, name = build_own(subject), subject.spec.name
    before = scores(model, name)
    with tempfile.TemporaryDirectory() as folder, _known(subject):
        model.save_pretrained(Path(folder) / "model")
        after = scores(load(Path(folder) / "model"), name)
    require(
        before == after,
        f"A loaded model scores {after}, the saved one {before}. They must be equal. Make what differs an option.",
    )


@check("gold", needs=REPRODUCIBLE)
def other_senses_stay_bit_identical(subject: Subject) -> None:
    """With the sense or without it, added later or built together, another sense's answers are the same bits.

    Why: a trained model must be extensible without measuring it again.
    Fix: change nothing that is shared: not the backbone reached through `context`, no global of torch.
    """
    companion = {"name": COMPANION, "mmqa": {"num_queries": subject.spec.mmqa.num_queries}}
    own = COMPANION.name
    model = build_model([companion])
    before, frozen = scores(model, own), model.frozen_fingerprint()
    model.add_modality(request(subject))
    require(
        scores(model, own) == before and model.frozen_fingerprint() == frozen,
        "Adding the sense changes what another sense answers. Others stay bit-identical. Change nothing that is "
        "shared.",
    )
    together = build_model([companion, request(subject)], major=own)
    require(
        scores(together, own) == before,
        "Built together with the sense, another sense answers otherwise. Others stay bit-identical. Change nothing "
        "that is shared.",
    )


@contextmanager
def _known(subject: Subject) -> Iterator[None]:
    """Let `load` find a spec that was given in this process."""
    with registry.temporary_registrations():
        if subject.distribution is None:
            registry.register(subject.spec, replace=True)
        yield
