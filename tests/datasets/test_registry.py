"""Data sets of other packages: real distributions, found by their metadata."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crema_core.datasets.prepare import find_dataset, list_datasets, prepare
from crema_core.datasets.spec import AnnotationFile, DatasetSpec, Media
from crema_core.errors import ContractError, PluginDisabledError, PluginLoadError
from tests.support.birds import register_songbirds
from tests.support.dummies import Installer


def test_a_data_set_of_another_package_is_prepared_like_ours(install: Installer, tmp_path: Path) -> None:
    install("dataset")
    (tmp_path / "labels-train.csv").write_text("clip,bird\n7,wren\n")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/7.mp4").write_bytes(b"")
    done = prepare("birdsong", root=tmp_path, split="train", out=tmp_path / "out.jsonl")
    assert done.num_lines == 1
    assert (tmp_path / "out.jsonl").read_text() == (
        '{"id": "7", "question": "Which bird sings?", "answer": "wren", "dataset": "birdsong", '
        '"video": "clips/7.mp4"}\n'
    )


def test_broken_entries_are_listed_with_their_reason_and_hide_no_other(install: Installer) -> None:
    install("dataset")
    register_songbirds()
    records = {record.name: record for record in list_datasets()}
    assert records["birdsong"].spec is not None
    assert records["songbirds"].spec is not None
    assert records["misnamed"].error == (
        "'misnamed' (crema-dummy-dataset 0.2.0): the entry point is called 'misnamed', its spec 'birdsong'. The two "
        'names must be equal. Write: birdsong = "crema_dummy_dataset.birdsong:SPEC"'
    )
    with pytest.raises(ContractError) as wrong:
        find_dataset("nonsense")
    assert str(wrong.value) == (
        "'nonsense' (crema-dummy-dataset 0.2.0): crema_dummy_dataset.birdsong:LABELS is of type str. The entry point "
        'must name a DatasetSpec object. Write: nonsense = "crema_dummy_dataset.birdsong:SPEC"'
    )
    with pytest.raises(PluginLoadError) as broken:
        find_dataset("broken")
    assert str(broken.value) == (
        "'broken' (crema-dummy-dataset 0.2.0) could not be imported from crema_dummy_dataset.absent:SPEC: "
        "ModuleNotFoundError: No module named 'crema_dummy_dataset.absent'. Repair it: pip install --force-reinstall "
        "crema-dummy-dataset, remove it: pip uninstall crema-dummy-dataset, "
        "or switch it off: CREMA_PLUGINS_DISABLE=crema-dummy-dataset"
    )


def test_a_package_can_be_switched_off(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("dataset")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-dummy-dataset")
    with pytest.raises(PluginDisabledError) as error:
        find_dataset("birdsong")
    assert str(error.value) == (
        "'birdsong' is installed (crema-dummy-dataset 0.2.0) but disabled by "
        "CREMA_PLUGINS_DISABLE=crema-dummy-dataset. Take it out of CREMA_PLUGINS_DISABLE to use it."
    )


def test_every_declaration_is_complete() -> None:
    for record in list_datasets():
        spec = record.spec
        assert spec is not None, record.error
        assert spec.source.startswith("https://")
        assert spec.license
        assert all(media.folder(split) for media in spec.media for split in spec.splits)
        assert all("{question}" in text for text in spec.wording.template.values())
        if spec.wording.template:
            assert spec.wording.source
        spec.describe()


def test_files_of_undeclared_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="files name splits that are not declared: dev"):
        DatasetSpec(
            name="birdsong",
            summary="s",
            source="https://example.org",
            license="CC0-1.0",
            splits=("train",),
            files=(AnnotationFile(path="dev.json", split="dev"),),
            media=(Media(modality="video", path="<clip>.mp4"),),
            read=lambda place: iter(()),
        )


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from crema_core.cli.main import main; main(['data', 'list', '--json']); "
        "print([m for m in ('torch', 'numpy', 'av', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
