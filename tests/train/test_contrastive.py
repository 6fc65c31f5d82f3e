"""Pretraining an encoder on pairs: it learns which belong together, and only it moves."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.common.processes import ALONE
from crema_core.common.progress import StatusLine
from crema_core.errors import CheckpointError, DataFileError, OptionsError, TrainingError
from crema_core.modality import Features
from crema_core.plugins import registry
from crema_core.tokens import ModalityFeatures
from crema_core.train import contrastive
from crema_core.train.checkpoints import pointed
from crema_core.train.contrastive import info_nce, pooled, pretrain
from crema_core.train.run import LAST, only_writer
from tests.train.file_modalities import trained_modalities
from tests.train.test_steps import snapshot

ROLES = {"modality": "gait", "against": "points"}
QUICK: dict[str, Any] = {"epochs": 6, "batch_size": 8, "lr": 3e-3, "projection_dim": 16}


def write_pairs(folder: Path, num: int = 24) -> Path:
    """Pairs of one hidden event: points at its place, and a sequence that has it in its products alone."""
    folder.mkdir(parents=True)
    generator, lines = np.random.default_rng(0), []
    for index in range(num):
        event = generator.standard_normal(5)
        carrier = generator.choice([-1.0, 1.0], size=(3, 3, 5))
        np.save(folder / f"g{index}.npy", np.concatenate([carrier, carrier * event], -1).astype("float32"))
        np.save(folder / f"p{index}.npy", np.tile(np.append(event, 1.0), (2, 1)).astype("float32"))
        lines.append({"gait": f"g{index}.npy", "points": f"p{index}.npy"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "pairs.jsonl"


@pytest.fixture
def new_model(t5_folder: Path) -> Any:
    return lambda **options: build(trained_modalities(**options), backbone=t5_folder)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


def test_a_gradient_that_is_not_finite_ends_it_and_the_checkpoint_before_stays(
    new_model: Any, pairs: Path, tmp_path: Path
) -> None:
    model, seen = new_model(), list[int]()

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return gradient if len(seen) < 5 else torch.full_like(gradient, torch.nan)

    encoder = next(iter(model.branch("gait").encoder_parameters().values()))
    encoder.requires_grad_(True).register_hook(spoil)
    with pytest.raises(TrainingError, match=r"^The norm of the gradient became nan in epoch 2, training gait on "):
        pretrain(model, pairs, out=tmp_path / "run", status=StatusLine(enabled=False), **ROLES, **QUICK)
    last = pointed(tmp_path / "run", LAST)
    assert last is not None
    assert last.name == "epoch-001-step-000003"
    assert bool(encoder.isfinite().all())


def test_a_folder_in_which_another_process_trains_is_refused(new_model: Any, pairs: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as other, ExitStack() as stack:
        other.submit(stack.enter_context, only_writer(tmp_path / "run", ALONE, print)).result()
        with pytest.raises(TrainingError, match="belongs to another process: a training of"):
            pretrain(new_model(), pairs, out=tmp_path / "run", **ROLES, **QUICK)
        other.submit(stack.close).result()


def test_the_loss_is_the_cross_entropy_of_both_directions() -> None:
    own, other = (functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(n))) for n in (0, 1))
    same = torch.eye(5, dtype=torch.bool)
    loss, right = info_nce(own, other, scale=torch.tensor(3.0), same_BB=same)
    similar = (3.0 * own @ other.T).exp()
    expected = [
        -(similar[i, i] / similar[i].sum()).log() - (similar[i, i] / similar[:, i].sum()).log() for i in range(5)
    ]
    assert float(loss) == pytest.approx(float(torch.stack(expected).mean() / 2), abs=1e-6)
    assert int(right) == sum(int(similar[i].argmax() == i) + int(similar[:, i].argmax() == i) for i in range(5))


def test_pairs_with_one_source_are_no_counterexamples() -> None:
    own = functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    other = own[[0, 0, 2]]
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    loss, right = info_nce(own[[0, 0, 2]], other, scale=torch.tensor(100.0), same_BB=same)
    assert float(loss) < 1e-3
    assert int(right) == 6


def test_padding_is_not_pooled() -> None:
    values = torch.tensor([[[[1.0], [3.0]], [[5.0], [99.0]], [[99.0], [99.0]]]])
    mask = torch.tensor([[[True, True], [True, False], [False, False]]])
    assert pooled(ModalityFeatures(Features(values, mask), torch.tensor([0]))).tolist() == [[3.0]]
    assert pooled(ModalityFeatures(Features(values, mask.any(-1)), torch.tensor([0]))).tolist() == [[27.0]]


@pytest.mark.slow
def test_it_learns_what_belongs_together_and_nothing_else_moves(new_model: Any, pairs: Path, tmp_path: Path) -> None:
    model: CremaModel = new_model()
    before = snapshot(model)
    run = pretrain(model, pairs, **ROLES, out=tmp_path / "run", **{**QUICK, "epochs": 60})
    first, last = run.metrics[0], run.metrics[-1]
    assert last["loss"] < first["loss"] / 2
    assert last["accuracy"] > 3 * last["chance"]
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {
        f"modalities.gait.modality.{key}" for key in dict(model.branch("gait").modality.named_parameters())
    }


@pytest.mark.slow
def test_an_interrupted_pretraining_ends_with_the_same_numbers(
    new_model: Any, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = new_model(dropout=0.2), new_model(dropout=0.2)
    expected = pretrain(whole, pairs, **ROLES, out=tmp_path / "whole", **QUICK)
    epoch = contrastive._Training._epoch

    def dies(self: Any, at: Any) -> Any:
        if at.epoch == 3:
            raise KeyboardInterrupt
        return epoch(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(contrastive._Training, "_epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            pretrain(new_model(dropout=0.2), pairs, **ROLES, out=tmp_path / "half", **QUICK)
    shutil.copytree(tmp_path / "half", tmp_path / "other")
    found = pretrain(again, pairs, **ROLES, out=tmp_path / "half", resume=True)  # settings are those of the run
    ours, theirs = again.branch("gait").encoder_parameters(), whole.branch("gait").encoder_parameters()
    assert all(torch.equal(own, theirs[key]) for key, own in ours.items())
    assert [{**line, "seconds": 0} for line in found.metrics] == [{**line, "seconds": 0} for line in expected.metrics]
    with pytest.raises(CheckpointError, match=r"\n  batch_size: 8 -> 4\n  seed: 0 -> 1\nUndo"):
        pretrain(again, pairs, **ROLES, out=tmp_path / "half", resume=True, batch_size=4, seed=1)
    changed = pretrain(
        new_model(dropout=0.2), pairs, **ROLES, out=tmp_path / "other", resume=True, lr=1e-4, max_grad_norm=None
    )
    assert [line["lr"] for line in changed.metrics[:3]] == [line["lr"] for line in expected.metrics[:3]]
    pairs_of_lines = zip(changed.metrics[3:5], expected.metrics[3:5], strict=True)
    assert all(float(own["lr"]) < 0.1 * float(was["lr"]) for own, was in pairs_of_lines)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert config["changes"] == [
        {"step": 9, "setting": "lr", "was": 3e-3, "now": 1e-4},
        {"step": 9, "setting": "max_grad_norm", "was": 1.0, "now": None},
    ]
    assert config["settings"]["lr"] == 1e-4
    again_changed = pretrain(new_model(dropout=0.2), pairs, **ROLES, out=tmp_path / "other", resume=True)
    assert again_changed.metrics == changed.metrics, "the settings of now are those of the run from now on"


@pytest.mark.slow
def test_a_model_with_the_pretrained_encoder_is_saved_and_loaded(new_model: Any, pairs: Path, tmp_path: Path) -> None:
    model = new_model()
    pretrain(model, pairs, **ROLES, out=tmp_path / "run", **QUICK)
    model.save_pretrained(tmp_path / "model")
    with registry.temporary_registrations():
        for own in trained_modalities():
            registry.register(own["name"] if isinstance(own, dict) else own)
        loaded = load(tmp_path / "model")
    saved = model.branch("gait").encoder_parameters()
    assert all(torch.equal(own, saved[key]) for key, own in loaded.branch("gait").encoder_parameters().items())


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"modality": "points", "against": "gait"}, r"The encoder of 'points' is frozen.*in this model: gait"),
        ({"modality": "gait", "against": "gait"}, "'gait' is no frozen modality"),
    ],
    ids=["frozen", "itself"],
)
def test_roles_that_do_not_fit_are_refused(
    roles: dict[str, str], message: str, new_model: Any, pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionsError, match=message):
        pretrain(new_model(), pairs, **roles, out=tmp_path / "run")


def test_lines_without_both_modalities_are_left_out(new_model: Any, pairs: Path, tmp_path: Path) -> None:
    lines = pairs.read_text().splitlines()
    lines[0] = json.dumps({"gait": "g0.npy", "question": "what ?", "answer": "red"})
    pairs.write_text("\n".join(lines))
    run = pretrain(new_model(), pairs, **ROLES, out=tmp_path / "run", **{**QUICK, "epochs": 1})
    assert run.metrics[0]["chance"] == pytest.approx(3 / 23)
    pairs.write_text(lines[0])
    with pytest.raises(DataFileError, match="0 of 1 samples with both 'gait' and 'points'"):
        pretrain(new_model(), pairs, **ROLES, out=tmp_path / "other")
