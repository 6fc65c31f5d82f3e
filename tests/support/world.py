"""A few clips of the generated world, a random backbone shaped like crema-tiny, and a short run of `crema fit`."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.cli.main import main
from crema_core.world import make_world
from crema_core.world.backbone import new_backbone, save_backbone

SENSES = "video,depth"
QUICK = ["--set", "epochs=2", "--set", "batch_size=27", "--set", "video.num_frames=2", "--set", "depth.num_frames=1"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random backbone of crema-tiny's shape."""
    folder = tmp_path_factory.mktemp("tiny") / "backbone"
    save_backbone(*new_backbone(seed=0), folder)
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of six clips."""
    return make_world(tmp_path_factory.mktemp("world") / "six", num_clips=6, seed=0, split="train").manifest


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, clips: Path) -> Path:
    """A run directory of `crema fit`."""
    out = tmp_path_factory.mktemp("run") / "first"
    words = ["fit", str(clips), "--modalities", SENSES, "--backbone", str(tiny_folder), "--out", str(out), *QUICK]
    assert main([*words, "--set", "early_exit=1.8"]) == 0
    return out
