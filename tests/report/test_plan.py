"""The estimate of memory against what torch's profiler sees the allocator do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.cli.main import main
from crema_core.data.data_file import Record
from crema_core.data.dataset import TrainBatch
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.kernels import activation_checkpointing
from crema_core.model.trainable import names_of, set_trainable
from crema_core.report.plan import plan
from crema_core.train.distributed import Distributed
from crema_core.train.settings import train_settings
from crema_core.train.steps import Minibatch, Stepper
from tests.support.backbones import save_random_blip2
from tests.support.languages import save_language_model
from tests.support.modalities import four_modalities

TOLERANCE = 0.25


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for activations, not Python objects, to be what takes memory."""
    return save_random_blip2(tmp_path_factory.mktemp("backbone") / "wide", width=96)


def measured(model: CremaModel, folder: Path, *, batch_size: int, checkpointing: bool) -> int:
    """Return the bytes a second update allocates at its peak, on top of those that were there before it."""
    generator = torch.Generator().manual_seed(0)
    sources = {name: model.branch(name).modality.example(generator) for name in model.names}
    question = Record(id="s", question="What is it?", answer="red blue green left", sources={})
    stepper = Stepper(
        model, train_settings(None, {}), trained=model.names, distributed=Distributed(precision="fp32", folder=folder)
    )
    set_trainable(model, names_of(model, stepper.parameters.values()))
    model.train()
    prepared = prepare_batch(model, [sources] * batch_size)
    batch = TrainBatch((question,) * batch_size, {name: own.rows for name, own in prepared.items()}, {})
    minibatch = Minibatch(batch, model.encode(prepared))
    with activation_checkpointing(model.backbone.language_model, enabled=checkpointing):
        stepper.sequential([minibatch], model.names)  # makes the optimizer's state
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
            stepper.sequential([minibatch], model.names)
    trace = folder / "trace.json"
    profiler.export_chrome_trace(str(trace))
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True], ids=["all kept", "recomputed"])
def test_the_estimate_is_near_the_measured_peak(checkpointing: bool, wide: Path, tmp_path: Path) -> None:
    model = build(four_modalities(), backbone=wide)
    estimate = plan(model, batch_size=8, gradient_checkpointing=checkpointing)
    resting = ("weights: frozen", "weights: adapters and fusion", "optimizer state", "features of encoders")
    expected = estimate.peak - sum(estimate.rows[name] for name in resting)
    found = measured(model, tmp_path, batch_size=8, checkpointing=checkpointing)
    assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.slow
def test_a_language_model_that_reads_ids_has_an_estimate_too(wide: Path, tmp_path: Path) -> None:
    model = build(four_modalities(), backbone=wide, language_model=save_language_model(tmp_path, "gemma4_text"))
    one, two = (plan(model, batch_size=size).rows["activations: language model"] for size in (1, 2))
    assert 0 < 1.8 * one < two


@pytest.mark.slow
def test_recomputing_layers_takes_less_and_what_a_plan_asks_leaves_the_model_as_it_was(wide: Path) -> None:
    model = build(four_modalities(), backbone=wide)
    trainable = names_of(model, (own for own in model.parameters() if own.requires_grad))
    before = model.training, model.frozen_fingerprint()
    whole, less = (plan(model, batch_size=4, gradient_checkpointing=own) for own in (False, True))
    assert less.rows["activations: language model"] < 0.5 * whole.rows["activations: language model"]
    assert plan(model, batch_size=8).rows["activations: modalities"] == 2 * whole.rows["activations: modalities"]
    one = plan(model, batch_size=4, retained_graphs=0).rows["activations: modalities"]
    assert whole.rows["activations: modalities"] / len(model.names) <= one < whole.rows["activations: modalities"]
    two = plan(model, batch_size=4, retained_graphs=2).rows["activations: modalities"]
    assert one < two < whole.rows["activations: modalities"]
    part = plan(model, batch_size=4, retained_graphs=2, micro_batch_size=1)
    assert part.rows["activations: language model"] == plan(model, batch_size=1).rows["activations: language model"]
    assert part.rows["activations: modalities"] < two
    growing = plan(model, batch_size=4, retained_graphs=2, micro_batch_size=(1, 1, 4))
    last = plan(model, batch_size=4, retained_graphs=0)  # the last sub-step holds most: one graph, all samples
    assert growing.rows == last.rows
    assert plan(model, batch_size=4, joint=True).rows["gradients"] > whole.rows["gradients"]
    assert (model.training, model.frozen_fingerprint()) == before
    assert names_of(model, (own for own in model.parameters() if own.requires_grad)) == trainable


def test_crema_plan_prints_every_component(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--modalities", "video", "--backbone", str(wide), "--set", "batch_size=4", "--processes", "2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch_size"] == 2
    assert found["peak"] == sum(found["rows"].values())
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "a GPU's context and fragmentation come on top."
