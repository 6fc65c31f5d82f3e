"""Which package a saved modality is built from again, and how a model is loaded elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.plugins import registry
from tests.support.dummies import Installer, dummies, install

__all__ = ["dummies", "install"]


@pytest.fixture
def saved(install: Installer, t5_folder: Path, tmp_path: Path) -> Path:
    """A model whose one modality came from `crema-dummy-duplicate-b`."""
    install("good", "duplicate_b")
    build([{"name": "twin", "mmqa": {"num_queries": 3}, "prefix": "Twin: "}], backbone=t5_folder).save_pretrained(
        tmp_path / "saved"
    )
    return tmp_path / "saved"


def distributions(folder: Path) -> list[str]:
    """Return where the modalities of a saved model came from."""
    return [entry["distribution"] for entry in json.loads((folder / "crema.json").read_text())["modalities"]]


def test_the_package_that_wrote_a_modality_is_meant_where_two_provide_it(
    install: Installer, saved: Path, tmp_path: Path
) -> None:
    install("duplicate_a")
    load(saved).save_pretrained(tmp_path / "again")
    assert distributions(saved) == distributions(tmp_path / "again") == ["crema-dummy-duplicate-b"]


def test_a_modality_that_another_package_alone_provides_now_is_built_from_that(
    install: Installer, saved: Path, tmp_path: Path
) -> None:
    sys.path.remove(str(install.dummies / "duplicate_b"))
    install("duplicate_a")
    registry.refresh()
    load(saved).save_pretrained(tmp_path / "again")
    assert distributions(tmp_path / "again") == ["crema-dummy-duplicate-a"]


def test_adapter_sizes_and_prefix_of_a_modality_are_built_again(saved: Path) -> None:
    loaded, entry = load(saved), json.loads((saved / "crema.json").read_text())["modalities"][0]
    assert loaded.config["modalities"] == [entry]
    assert (loaded.branch("twin").adapter.queries.shape[-2], entry["prefix"]) == (3, "Twin: ")
