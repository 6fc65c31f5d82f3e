"""Listing on real metadata: every status is shown, and no package stops another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crema_core.plugins import _metadata, registry
from crema_core.plugins.registry import PluginRecord
from tests.support.dummies import SOURCES, Installer

EVERY_DUMMY = ("good", "broken_import", "wrong_api", "duplicate_a", "duplicate_b", "bad_contract", "hook_typo")


def statuses() -> dict[str, str]:
    return {record.name: record.status for record in registry.list_modalities()}


def record(name: str) -> PluginRecord:
    (found,) = [record for record in registry.list_modalities() if record.name == name]
    return found


@pytest.mark.filterwarnings("ignore::crema_core.errors.PluginVersionWarning")
def test_every_status_is_listed_and_nothing_raises(install: Installer) -> None:
    before = statuses()
    install(*EVERY_DUMMY)
    new = {name: status for name, status in statuses().items() if name not in before}
    assert new == {
        "ancient": "incompatible",
        "broken": "broken",
        "broken_factory": "ok",
        "first_owner": "ok",
        "future": "incompatible",
        "good": "ok",
        "illegal": "broken",
        "incomplete": "ok",
        "misnamed": "broken",
        "needy": "ok",
        "newer": "ok",
        "not_a_modality": "ok",
        "not_a_spec": "broken",
        "second_owner": "ok",
        "twin": "duplicate",
        "wrong_signature": "ok",
    }
    assert {name: status for name, status in statuses().items() if name in before} == before


def test_a_disabled_package_is_listed_without_being_imported(
    install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good", "broken_import")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "broken,crema-dummy-good")
    assert record("broken").status == record("good").status == "disabled"
    assert "crema_dummy_good" not in sys.modules


def test_both_providers_of_one_name_are_listed(install: Installer) -> None:
    install("duplicate_a", "duplicate_b")
    twins = [record for record in registry.list_modalities() if record.name == "twin"]
    assert [(twin.distribution, twin.version, twin.error) for twin in twins] == [
        ("crema-dummy-duplicate-a", "0.1.0", "2 packages provide it. Write 'crema-dummy-duplicate-a:twin'"),
        ("crema-dummy-duplicate-b", "0.2.0", "2 packages provide it. Write 'crema-dummy-duplicate-b:twin'"),
    ]


@pytest.mark.slow
def test_a_light_module_that_imports_torch_is_noted(install: Installer) -> None:
    code = (
        "import json; from crema_core.plugins import registry;"
        "print(json.dumps({r.name: [r.status, *r.notes] for r in registry.list_modalities()}))"
    )
    environment = install.environment("heavy_import", "good")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    status, note = found["heavy"]
    assert status == "ok"
    assert note.startswith("crema_dummy_heavy_import.plugin imports torch")
    assert note.endswith(", which slows every listing; import it in the class's file")
    assert found["good"] == ["ok"]


def test_a_heavy_package_can_still_be_used(install: Installer) -> None:
    import torch  # already imported here, so that importing the package changes no other test

    install("heavy_import")
    assert torch.__version__
    assert registry.resolve("heavy").spec.name == "heavy"


def test_the_first_metadata_on_the_path_wins_and_the_other_is_noted(
    install: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stale .egg-info ahead of the real metadata is the commonest broken development set-up.
    install("good")
    stale = tmp_path / "crema_dummy_good.egg-info"
    stale.mkdir()
    (stale / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: crema-dummy-good\nVersion: 0.0.9\n")
    (stale / "entry_points.txt").write_text("[crema.modalities]\ngood = crema_dummy_good.plugin:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    good = record("good")
    assert (good.version, good.status) == ("0.0.9", "ok")
    assert good.notes == (f"other metadata of crema-dummy-good lies in {install.dummies / 'good'}; delete it",)


def test_equal_metadata_found_twice_is_one_package(
    install: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good")
    shutil.copytree(install.dummies / "good", tmp_path / "again")
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    registry.refresh()
    assert (record("good").status, record("good").notes) == ("ok", ())


def test_half_removed_package_is_ignored_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_over = tmp_path / "crema_gone-1.0.dist-info"
    left_over.mkdir()
    (left_over / "entry_points.txt").write_text("[crema.modalities]\ngone = crema_gone.plugin:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _metadata.forget()
    with pytest.warns(UserWarning, match="half-removed") as caught:
        assert "gone" not in registry.installed_names()
    assert str(caught[0].message) == (
        f"{tmp_path} holds a half-removed package: entry points without metadata. It is ignored. "
        "Remove its .dist-info folder, or install the package again."
    )
    monkeypatch.undo()
    registry.refresh()


@pytest.mark.parametrize("reference", ["", "package:", "os:path.nothing", "not a module:SPEC"])
def test_malformed_references_are_broken_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    folder = tmp_path / "crema_odd-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: crema-odd\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[crema.modalities]\nodd = {reference}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    assert record("odd").status == "broken"
    monkeypatch.undo()
    registry.refresh()


@pytest.mark.slow
def test_pip_installs_a_dummy_for_real(tmp_path: Path) -> None:
    # The other tests unpack wheels; this one shows that pip leaves the same behind.
    source = shutil.copytree(SOURCES / "good", tmp_path / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(tmp_path / "target"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    code = "from crema_core.plugins import registry; print(registry.describe('good')['distribution'])"
    environment = {"PYTHONPATH": f"{tmp_path / 'target'}:{SOURCES.parents[1]}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "crema-dummy-good\n"
