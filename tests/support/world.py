"""A few clips of the generated world, a random backbone shaped like crema-tiny, and a short run of `crema fit`.

The world is a package of its own (crema-world); tests that need it are skipped where core is installed alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.cli.main import main

MODALITIES = "video,depth"
QUICK = ["--set", "epochs=2", "--set", "batch_size=27", "--set", "video.num_frames=2", "--set", "depth.num_frames=1"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random backbone of crema-tiny's shape."""
    backbone = pytest.importorskip("crema_world.backbone")
    folder = tmp_path_factory.mktemp("tiny") / "backbone"
    backbone.save_backbone(*backbone.new_backbone(seed=0), folder)
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data file of six clips."""
    world = pytest.importorskip("crema_world")
    data_file: Path = world.make_world(
        tmp_path_factory.mktemp("world") / "six", num_clips=6, seed=0, split="train"
    ).data_file
    return data_file


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, clips: Path) -> Path:
    """A run directory of `crema fit`."""
    out = tmp_path_factory.mktemp("run") / "first"
    words = ["fit", str(clips), "--modalities", MODALITIES, "--backbone", str(tiny_folder), "--out", str(out), *QUICK]
    assert main([*words, "--set", "early_exit=1.8"]) == 0
    return out
