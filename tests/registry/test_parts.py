"""Fusion, backbone family, encoder, metric and preset of another package: used, saved, loaded, named when missing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import Blip2QFormerConfig

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError, CheckpointError, OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.model.load_backbone import find_family
from crema_core.plugins import groups, registry
from crema_core.train.settings import train_settings
from tests.support.dummies import Installer
from tests.support.fixtures import t5_folder
from tests.support.modalities import four_modalities, register_modalities
from tests.support.steps import SOURCES
from tests.train.file_modalities import file_modalities, write_records

__all__ = ["t5_folder"]

PROVENANCE = {"distribution": "crema-dummy-parts", "version": "0.4.0"}


@pytest.fixture
def folder(t5_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint of a model type that transformers does not have."""
    place = Path(shutil.copytree(t5_folder, tmp_path / "dummy-blip"))
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "model_type": "dummy_blip"}))
    return place


def made(folder: Path) -> CremaModel:
    register_modalities()
    return build(four_modalities(), backbone=folder, fusion="stacked")


def uninstall(install: Installer) -> None:
    sys.path.remove(str(install.dummies / "parts"))
    registry.refresh()


def test_they_are_used_saved_and_loaded(install: Installer, folder: Path, tmp_path: Path) -> None:
    install("parts")
    model = made(folder)
    assert type(model.fusion).__name__ == "StackedFusion"
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "crema.json").read_text())
    assert saved["parts"] == {
        "fusion": {"name": "stacked", **PROVENANCE},
        "backbone": {"name": "dummy_blip", **PROVENANCE},
    }
    assert load(tmp_path / "saved").answer("What is it?", **SOURCES) == model.answer("What is it?", **SOURCES)
    assert train_settings("glance").batch_size == 2


def test_all_that_is_missing_is_named_with_what_installs_it(install: Installer, folder: Path, tmp_path: Path) -> None:
    install("parts")
    made(folder).save_pretrained(tmp_path / "saved")
    uninstall(install)
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "saved")
    assert str(caught.value).splitlines() == [
        "2 problems:",
        f"- '{tmp_path / 'saved'}' needs the fusion 'stacked' of crema-dummy-parts 0.4.0, which is not installed. Run: "
        "pip install crema-dummy-parts",
        f"- '{tmp_path / 'saved'}' needs the backbone family 'dummy_blip' of crema-dummy-parts 0.4.0, which is not "
        "installed. Run: pip install crema-dummy-parts",
    ]


def test_an_encoder_is_used_saved_loaded_and_named_when_missing(
    install: Installer, t5_folder: Path, tmp_path: Path
) -> None:
    install("parts")
    model = build([{"name": "video", "encoder": "mean_color", "num_frames": 2}], backbone=t5_folder)
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "crema.json").read_text())
    assert saved["parts"]["encoders"] == [{"name": "mean_color", **PROVENANCE}]
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert load(tmp_path / "saved").answer("What is it?", video=frames) == model.answer("What is it?", video=frames)
    uninstall(install)
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "saved")
    assert str(caught.value) == (
        f"'{tmp_path / 'saved'}' needs the encoder 'mean_color' of crema-dummy-parts 0.4.0, which is not installed. "
        "Run: pip install crema-dummy-parts"
    )


def test_of_a_part_that_moved_out_of_core_its_package_is_named(
    install: Installer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("parts")
    made(folder).save_pretrained(tmp_path / "saved")
    uninstall(install)
    file = tmp_path / "saved" / "crema.json"
    file.write_text(file.read_text().replace("crema-dummy-parts", "crema-core"))
    known = {kind: dict(names) for kind, names in groups.directory().items()}
    known["backbone"]["dummy_blip"] = "crema-dummy-parts"
    monkeypatch.setattr(groups, "directory", lambda: known)
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "saved")
    assert str(caught.value).splitlines()[-1] == (
        f"- '{tmp_path / 'saved'}' needs the backbone family 'dummy_blip' of crema-core 0.4.0, which is not installed. "
        "Run: pip install crema-dummy-parts"
    )


def test_a_part_registered_by_hand_is_asked_for(install: Installer, t5_folder: Path, tmp_path: Path) -> None:
    install("parts")
    stacked = registry.load("fusion", "stacked")
    uninstall(install)
    register_modalities()
    with registry.temporary_registrations():
        registry.register(stacked, kind="fusion", name="mine")
        build(four_modalities(), backbone=t5_folder, fusion="mine").save_pretrained(tmp_path / "saved")
        load(tmp_path / "saved")
    with pytest.raises(BuildError) as caught:
        load(tmp_path / "saved")
    assert str(caught.value) == (
        f"'{tmp_path / 'saved'}' needs the fusion 'mine', which was registered by hand. Register it again first: "
        "crema_core.registry.register(..., kind='fusion', name='mine')"
    )


def test_the_package_that_wrote_a_fusion_is_meant_where_two_provide_it(
    install: Installer, t5_folder: Path, tmp_path: Path
) -> None:
    install("parts")
    register_modalities()
    model = build(four_modalities(), backbone=t5_folder, fusion="stacked")
    model.save_pretrained(tmp_path / "saved")
    rival = tmp_path / "site" / "crema_rival-1.0.dist-info"
    rival.mkdir(parents=True)
    (rival / "METADATA").write_text("Metadata-Version: 2.1\nName: crema-rival\nVersion: 1.0\n")
    (rival / "entry_points.txt").write_text("[crema.fusions]\nstacked = crema_rival:Stacked\n")
    install.monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.refresh()
    assert type(load(tmp_path / "saved").fusion).__name__ == "StackedFusion"


def test_a_model_saved_before_parts_were_written_loads(t5_folder: Path, tmp_path: Path) -> None:
    register_modalities()
    build(four_modalities(), backbone=t5_folder).save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "crema.json"
    saved = json.loads(file.read_text())
    assert saved.pop("parts")["fusion"]["distribution"] == "crema-core"
    file.write_text(json.dumps(saved))
    assert load(tmp_path / "saved").names == ("main", "other", "wave", "points")


def test_a_metric_is_recorded_with_the_result(install: Installer, t5_folder: Path, tmp_path: Path) -> None:
    install("parts")
    model = build(file_modalities(), backbone=t5_folder)
    records = write_records(tmp_path / "data", 3)
    result = evaluate(model, records, scorer="crema-dummy-parts:first_word", measures=["exact"])
    assert result.metric_packages["first_word"] == {"name": "first_word", **PROVENANCE}
    assert result.metric_packages["exact"]["distribution"] == "crema-core"
    assert result.scorers == ("first_word",)


def test_a_fallback_family_is_asked_about_types_without_an_entry(install: Installer) -> None:
    install("parts")
    found, family = find_family(Blip2QFormerConfig(), "somewhere")
    assert (found.name, found.distribution) == ("any-dummy", "crema-dummy-parts")
    assert family is registry.load("backbone", "dummy_blip")
    uninstall(install)
    with pytest.raises(CheckpointError, match="no installed backbone family loads it"):
        find_family(Blip2QFormerConfig(), "somewhere")


def test_names_of_known_packages_say_what_to_install(
    t5_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"fusion": "stacked", "metric": "first_word", "preset": "glance", "backbone": "dummy-small"}
    monkeypatch.setattr(groups, "directory", lambda: {kind: {name: "crema-x"} for kind, name in known.items()})
    register_modalities()
    with pytest.raises(BuildError, match=r"Run: pip install crema-x$"):
        build(four_modalities(), backbone=t5_folder, fusion="stacked")
    with pytest.raises(OptionsError, match=r"Run: pip install crema-x$"):
        train_settings("glance")
    with pytest.raises(OptionsError, match=r"Run: pip install crema-x$"):
        registry.load("metric", "first_word")
    with pytest.raises(CheckpointError, match=r"Run: pip install crema-x$"):
        build(four_modalities(), backbone="dummy-small")
