from pathlib import Path

import pytest
import torch
from torch import nn

from crema_core.errors import CheckpointError
from crema_core.train.checkpoints import (
    Checkpoint,
    load_optimizer_state,
    optimizer_state,
    point,
    pointed,
    prune,
    read_checkpoint,
    write_checkpoint,
)
from crema_core.train.optim import make_optimizer
from crema_core.train.settings import train_settings


def checkpoint(value: float = 1.0) -> Checkpoint:
    tensor = torch.full((2, 3), value)
    return Checkpoint({"a": tensor}, {"a/exp_avg": tensor}, {"cpu": torch.get_rng_state()}, {"step": 3, "x": 0.1})


def test_a_checkpoint_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    written = checkpoint(0.1)
    read = read_checkpoint(write_checkpoint(tmp_path, "one", written))
    assert torch.equal(read.adapters["a"], written.adapters["a"])
    assert torch.equal(read.random["cpu"], written.random["cpu"])
    assert {key: read.state[key] for key in ("step", "x")} == written.state


def test_optimizer_moments_survive(tmp_path: Path) -> None:
    first = {name: nn.Parameter(torch.ones(2, 2)) for name in ("a.weight", "b.weight")}
    second = {name: nn.Parameter(torch.ones(2, 2)) for name in ("a.weight", "b.weight")}
    settings = train_settings(None, {"lr": 0.1, "weight_decay": 0.1, "betas": (0.9, 0.99)})
    optimizers = [make_optimizer(own, settings) for own in (first, second)]
    first["a.weight"].grad = torch.rand(2, 2)
    optimizers[0].step()
    state = optimizer_state(optimizers[0], first)
    assert set(state) == {"a.weight/step", "a.weight/exp_avg", "a.weight/exp_avg_sq"}
    load_optimizer_state(optimizers[1], second, state)
    second["a.weight"].data.copy_(first["a.weight"].data)
    for own, optimizer in zip((first, second), optimizers, strict=True):
        own["a.weight"].grad = torch.ones(2, 2)
        own["b.weight"].grad = torch.ones(2, 2)
        optimizer.step()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_unfinished_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "one", checkpoint())
    (folder / "complete").unlink()
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(folder)
    assert str(error.value) == (
        f"'{folder}' is not a completely written checkpoint (its 'complete' file is missing). Writing was interrupted, "
        "or the folder is something else. Use an earlier save. Nothing was changed."
    )


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "one", checkpoint())
    content = bytearray((folder / "optimizer.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "optimizer.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="another sha256"):
        read_checkpoint(folder)


def test_leftovers_of_an_interrupted_save_are_removed_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".one.tmp-abc"
    leftover.mkdir(parents=True)
    write_checkpoint(tmp_path, "one", checkpoint())
    assert not leftover.exists()


def test_only_what_is_pointed_at_is_kept(tmp_path: Path) -> None:
    folders = {name: write_checkpoint(tmp_path, name, checkpoint()) for name in ("one", "two", "three")}
    point(tmp_path, "last", "three")
    point(tmp_path, "best", "one")
    prune(tmp_path, [pointed(tmp_path, "last"), pointed(tmp_path, "best")])
    assert {name for name, folder in folders.items() if folder.exists()} == {"one", "three"}
