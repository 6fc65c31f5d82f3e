"""Which trainings the in-house tables need. Rows of several tables that are the same training are one job.

The base: the demo's first modalities, self-gated fusion, sequential training without early exit, the demo's sizes.
Every method that is compared with it has a learning rate of its own, chosen on held-out clips (`methods`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from crema_analysis.axes import PAPER_FUSIONS
from crema_core.model.mmqa import AUTO_START
from crema_core.plugins.spec import OutputStart
from crema_world.demo import DemoSettings

DEMO = DemoSettings()
MODALITIES: tuple[dict[str, Any], ...] = DEMO.modalities[:4]
NAMES: tuple[str, ...] = tuple(modality["name"] for modality in MODALITIES)
TRAINING = DEMO.training

RANKS, QUERIES = (4, 16, 64), (4, 8, 16, 32)
RANK = DEMO.mmqa["lora_rank"]


@dataclass(frozen=True)
class Job:
    """One training, whatever the seed.

    Attributes:
        name: of its cell.
        count: the first `count` modalities are built.
        build: arguments of `build` besides modalities, backbone, seed and the demo's adapter sizes.
        mmqa: adapter sizes besides the demo's.
        training: settings besides the demo's.
        method: name of the job whose learning rate it takes; None: one of its own.
    """

    name: str
    count: int = len(MODALITIES)
    build: Mapping[str, Any] = field(default_factory=dict)
    mmqa: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = "base"


BASE = Job("base", method=None)


@dataclass(frozen=True)
class Plan:
    """One table before anything is trained.

    Attributes:
        title: short, also for `--only`.
        rows: label and job.
        note: what it is the counterpart of, and how to read it.
    """

    title: str
    rows: tuple[tuple[str, Job], ...]
    note: str


def plans() -> list[Plan]:
    """Return every table that needs trainings, in the order of the paper's."""
    fusions = [
        (name, BASE if name == "self_gated" else Job(f"fusion-{name}", build={"fusion": name}, method=None))
        for name in PAPER_FUSIONS
    ]
    majors = [(name, BASE if name == NAMES[0] else Job(f"major-{name}", build={"major": name})) for name in NAMES]
    ranks = [(str(rank), BASE if rank == RANK else Job(f"rank-{rank}", mmqa={"lora_rank": rank})) for rank in RANKS]
    queries = [(str(own), BASE if own == 8 else Job(f"queries-{own}", mmqa={"num_queries": own})) for own in QUERIES]
    starts = [
        (start, BASE if {start} == {*AUTO_START.values()} else Job(f"start-{start}", mmqa={"output_start": start}))
        for start in get_args(OutputStart)
    ]
    joint = Job("joint", training={"mode": "joint"}, method=None)
    interpolate = Job("interpolate", mmqa={"projection": "interpolate"})
    return [
        Plan("modalities", tuple(_growing()), "Table 3's kind: growing sets of modalities, a model for every row."),
        Plan("individual", tuple(_individual()),
             "The paper's baseline: a Q-Former of its own per modality, all of it trained, nothing fused, joint "
             "updates, at a learning rate of its own (the strategy's lr_scale)."),
        Plan("fusion", tuple(fusions), "Table 8: how modalities are merged."),
        Plan("training", (("sequential", BASE), ("joint", joint)),
             "Table 17: one update per modality in each minibatch, or one update of all."),
        Plan("rank", tuple(ranks), "Table 19: rank of every modality's LoRA."),
        Plan("major modality", tuple(majors), "Table 20: the modality on whose frames the others are fused."),
        Plan("connector", (("FC", BASE), ("interpolation", interpolate)),
             "Table 21: how features of another width reach the Q-Former's."),
        Plan("queries", tuple(queries),
             "Table 22: queries of every modality; other numbers than 8 start from random queries, not the "
             "backbone's."),
        Plan("start", tuple(starts),
             "A choice not in the paper: weights with which the output projections of supporting modalities start."),
    ]  # fmt: skip


def methods() -> list[Job]:
    """Return the jobs whose learning rate is chosen for themselves."""
    return list({job.name: job for plan in plans() for _, job in plan.rows if job.method is None}.values())


def _growing() -> list[tuple[str, Job]]:
    rows = [(" + ".join(NAMES[:count]), Job(f"modalities-{count}", count=count)) for count in range(1, len(NAMES))]
    return [*rows, (" + ".join(NAMES), BASE)]


def _individual() -> list[tuple[str, Job]]:
    rows = [("MMQA, " + label, job) for label, job in _growing() if job.count in (1, len(NAMES))]
    own = {"build": {"fusion": "individual_qformers"}, "training": {"mode": "joint"}}
    whole = f"individual-{len(NAMES)}"
    for count in (1, len(NAMES)):
        label = "individual Q-Formers, " + " + ".join(NAMES[:count])
        rows.append(
            (label, Job(f"individual-{count}", count=count, method=None if count == len(NAMES) else whole, **own))
        )
    return rows
