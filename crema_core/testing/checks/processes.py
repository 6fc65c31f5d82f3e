"""Silver: what happens around the sense: worker processes, the network, the state of the process."""

from __future__ import annotations

import pickle

import torch

from crema_core.modality import Sample
from crema_core.testing.bench import build_alone, equal, modalities, prepared, source
from crema_core.testing.check import check, require
from crema_core.testing.offline import offline
from crema_core.testing.probing import heavy_import
from crema_core.testing.state import changes, fresh_generators, snapshot
from crema_core.testing.subject import Subject

PREPARED = ("prepare_gives_cpu_tensors",)


@check("silver", needs=PREPARED)
def samples_pickle(subject: Subject) -> None:
    """A `Sample` survives pickling.

    Why: it travels from the worker process that prepared it to the main process.
    Fix: keep plain tensors in plain dicts; no functions, open files or readers.
    """
    for modality in modalities(subject):
        sample = prepared(modality, 0)
        require(
            equal(sample, pickle.loads(pickle.dumps(sample))),
            "A sample is another one after pickling. Return plain tensors.",
        )


@check("silver", needs=("building_is_offline",))
def modality_pickles(subject: Subject) -> None:
    """The sense itself survives pickling, without a copy of the backbone.

    Why: each worker process receives it; on many systems workers are started fresh and get it pickled.
    Fix: keep functions and open files out of attributes; reach the backbone through `self.context` only.
    """
    for modality in modalities(subject):
        copy = pickle.loads(pickle.dumps(modality))
        require(
            copy.context.vision is None,
            "The pickled sense carries the backbone. Workers must not receive it. Leave BuildContext as it is.",
        )


@check(
    "silver", needs=("samples_pickle", "modality_pickles", "prepare_is_deterministic", "class_import_changes_nothing")
)
def prepare_works_in_a_fresh_process(subject: Subject) -> None:
    """A process that knows nothing but the pickled sense prepares the same sample.

    Why: what a module or a registry was told in the main process is not there in a worker process that is started
    fresh.
    Fix: keep what `prepare` needs in attributes set by `__init__` from the options, not in globals.
    """
    modality = next(modalities(subject))
    job = pickle.dumps((modality, source(modality, 0)))
    outcome = heavy_import(subject.spec.factory.partition(":")[0], job)
    require(outcome["fault"] is None, f"prepare() fails in a worker process:\n{outcome['fault']}")
    sample: Sample = pickle.loads(outcome["sample"])
    require(
        equal(sample, prepared(modality, 0)),
        "prepare() gives another sample in a worker process. It depends on what the main process was told. Keep what "
        "it needs in attributes.",
    )


@check("silver", needs=PREPARED)
def running_is_offline(subject: Subject) -> None:
    """`prepare` and `encode` open no connection.

    Why: training runs on machines without network, and a look-up per sample would be slow and flaky everywhere else.
    Fix: load weights in `load_assets`; read sources from files or arrays.
    """
    for modality in modalities(subject):
        with offline() as tried, torch.no_grad():
            modality.encode(modality.collate([modality.prepare(source(modality, 0))]))
        require(
            not tried,
            f"prepare() or encode() asks the network for {', '.join(tried)}. Running is offline. Load what is needed "
            "in load_assets().",
        )


@check("silver", needs=PREPARED)
def process_state_is_untouched(subject: Subject) -> None:
    """Building, preparing and encoding leave random generators, defaults, environment and logging as they were.

    Why: other senses and the training loop draw from the same generators; adding a sense must not change their numbers.
    Fix: use generators of your own, and restore what a library you call changes.
    """
    for options in subject.cases:
        with fresh_generators():
            before = snapshot()
            modality = build_alone(subject, options)
            # Core seeds torch's generator around `__init__`, so an encoder may draw its weights from it.
            changed = set(changes(before, snapshot())) - {"the random generator of torch"}
            before = snapshot()
            with torch.no_grad():
                modality.encode(modality.collate([modality.prepare(source(modality, 0))]))
            changed |= set(changes(before, snapshot()))
        require(
            not changed,
            f"The sense changes {', '.join(sorted(changed))}. It must leave the process as it was. Use generators of "
            "its own, and restore what it changes.",
        )
