"""`crema plugins doctor` finds each fault of a made-up environment, and none in a whole one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.main import main
from crema_core.plugins import registry
from crema_core.plugins.doctor import examine
from tests.support.dummies import Installer


def install_into(
    site: Path,
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    entry_points: str = "",
    kind: str = "dist-info",
) -> Path:
    """Write the metadata pip would write."""
    egg = kind == "egg-info"
    folder = site / f"{name.replace('-', '_')}{'' if egg else f'-{version}'}.{kind}"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (folder / ("PKG-INFO" if egg else "METADATA")).write_text(
        "\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires)]) + "\n", encoding="utf-8"
    )
    if entry_points:
        (folder / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    return site


RADAR = "[crema.modalities]\nradar = crema_radar.plugin:SPEC\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An environment where everything fits."""
    site = tmp_path / "site"
    install_into(site, "crema-core", "0.1.0", requires=("torch>=2.11",))
    install_into(site, "torch", "2.11.0")
    install_into(site, "torchvision", "0.26.0")
    return install_into(site, "crema-radar", "0.2.0", requires=("crema-core>=0.1,<1",), entry_points=RADAR)


def findings(*sites: Path) -> list[tuple[str, str]]:
    return [(found.kind, found.text) for found in examine([str(site) for site in sites]).findings]


def test_a_whole_environment_has_no_findings(site: Path) -> None:
    assert findings(site) == []


def test_a_requirement_that_is_not_met(site: Path) -> None:
    requires = ("crema-core>=2", "einops; extra == 'test'")
    install_into(site, "crema-sonar", "1.0", requires=requires, entry_points=RADAR.replace("radar =", "sonar ="))
    assert findings(site) == [
        ("version conflict", "crema-sonar 1.0 needs crema-core>=2; found 0.1.0. Run: pip install 'crema-core>=2'")
    ]


def test_stale_egg_info_that_hides_entry_points(site: Path, tmp_path: Path) -> None:
    old = install_into(tmp_path / "checkout", "crema-radar", "0.1.0", entry_points="[crema.hooks]\n", kind="egg-info")
    assert findings(old, site) == [
        (
            "stale metadata",
            f"crema-radar 0.1.0 in {old} (crema_radar.egg-info) hides 0.2.0 in {site} (crema_radar-0.2.0.dist-info). "
            f"One environment has one. Delete {old}/crema_radar.egg-info, then pip install --force-reinstall "
            "crema-radar",
        )
    ]


def test_a_distribution_found_twice(site: Path) -> None:
    install_into(site, "torch", "2.10.0")
    ((kind, text),) = [found for found in findings(site) if found[0] == "found twice"]
    assert kind == "found twice"
    assert text.endswith("then pip install --force-reinstall torch")


def test_the_same_metadata_twice_hide_nothing(site: Path, tmp_path: Path) -> None:
    again = install_into(tmp_path / "again", "crema-radar", "0.2.0", requires=("crema-core",), entry_points=RADAR)
    assert findings(again, site) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[crema.modality]\nsonar = crema_sonar.plugin:SPEC\n",
            "crema-sonar 1.0 has entry points in 'crema.modality', which nothing reads. Groups: crema.modalities, "
            "crema.fusions, crema.backbones, crema.encoders, crema.datasets, crema.metrics, crema.presets, "
            "crema.hooks. Did you mean 'crema.modalities'? Correct its pyproject.toml and install it again.",
        ),
        (
            "[crema.modalities]\nsonar = crema-sonar.plugin:SPEC\n",
            "crema-sonar 1.0 has 'sonar = crema-sonar.plugin:SPEC'. The text is 'package.module:SPEC'. "
            "Correct its pyproject.toml and install it again.",
        ),
        (
            "[crema.modalities]\nsonar\n",
            "entry_points.txt of crema-sonar 1.0 cannot be read: Source contains parsing errors: '<string>'. Lines are "
            "'name = package.module:SPEC'. Repair its pyproject.toml and install it again.",
        ),
    ],
)
def test_entry_points_nobody_can_load(site: Path, text: str, message: str) -> None:
    install_into(site, "crema-sonar", "1.0", entry_points=text)
    assert findings(site) == [("entry point", message)]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        (
            "torchaudio",
            "2.10.0",
            "torchaudio 2.10.0 does not belong to torch 2.11.0. Its extensions need the torch they were built for: "
            "torchaudio 2.11. Run: pip install 'torchaudio==2.11.*'",
        ),
        (
            "torchaudio",
            "2.11.0+cpu",
            "torch is the default build, torchaudio the 'cpu' build. Both must come from one index. Install them "
            "together: pip install --force-reinstall torch torchvision torchaudio",
        ),
    ],
)
def test_torch_builds_that_do_not_match(site: Path, name: str, version: str, message: str) -> None:
    install_into(site, name, version)
    assert findings(site) == [("torch builds", message)]


@pytest.mark.slow
def test_broken_plugins_come_with_their_traceback(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("broken_import", "good")
    assert main(["plugins", "doctor"]) == 3
    printed = capsys.readouterr().out
    assert "broken plugin: 'broken' (crema-dummy-broken-import 0.1.0) could not be imported from " in printed
    assert "   ModuleNotFoundError: No module named " in printed
    assert main(["plugins", "doctor", "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert [found["kind"] for found in data["findings"]] == ["broken plugin"]
    assert {"interpreter", "python", "path"} <= data["environment"].keys()
    assert "crema-dummy-good" in {package["name"] for package in data["packages"]}


@pytest.mark.slow
def test_a_heavy_part_whose_module_is_not_there_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "own"
    (site / "crema_sonar").mkdir(parents=True)
    (site / "crema_sonar" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (site / "crema_sonar" / "there.py").write_text("")
    entries = "[crema.fusions]\nwoven = crema_sonar.there:Woven\nlost = crema_sonar.absent:Lost\n"
    install_into(site, "crema-sonar", "1.0", entry_points=entries)
    monkeypatch.syspath_prepend(str(site))
    registry.refresh()
    found = [finding.text for finding in examine().findings]
    assert found == [
        "'lost' (crema-sonar 1.0) is a fusion in crema_sonar.absent:Lost, and there is no module crema_sonar.absent. "
        "Repair it: pip install --force-reinstall crema-sonar, remove it: pip uninstall crema-sonar, "
        "or switch it off: CREMA_PLUGINS_DISABLE=crema-sonar"
    ]
    monkeypatch.undo()
    registry.refresh()


def test_a_variable_that_names_nothing(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "goood")
    (found,) = examine().findings
    assert found.kind == "environment variable"
    assert found.text.startswith("'goood' in CREMA_PLUGINS_DISABLE matches no installed plugin. Known: ")


def test_a_whole_installation_has_nothing_to_repair(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("good")
    assert main(["plugins", "doctor"]) == 0
    assert capsys.readouterr().out.endswith("\nNothing to repair.\n")


def test_a_name_that_two_packages_provide(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = RADAR + "[crema.backbones]\nown = crema_x.backbone:OWN\n[crema.hooks]\nradar = crema_x.hooks\n"
    install_into(site, "crema-one", "1.0", entry_points=entries)
    install_into(site, "crema-two", "2.0", entry_points=entries.replace("radar = crema_radar", "sonar = crema_radar"))
    assert sorted(findings(site)) == [
        (
            "name given twice",
            "2 packages provide the backbone family 'own': crema-one 1.0, crema-two 2.0. The name alone is refused. "
            "Switch one off: CREMA_PLUGINS_DISABLE=crema-one",
        ),
        (
            "name given twice",
            "2 packages provide the modality 'radar': crema-one 1.0, crema-radar 0.2.0. The name alone is refused. "
            "Write 'crema-one:radar' or 'crema-radar:radar', or switch one off: CREMA_PLUGINS_DISABLE=crema-one",
        ),
    ]
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-one")
    assert findings(site) == []


def test_an_editable_package_is_shown_with_its_sources(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-radar")
    install_into(site, "crema-sonar", "1.0", entry_points="[crema.hooks]\n")
    record = {"url": "file:///home/me/my%20packages/crema-radar", "dir_info": {"editable": True}}
    (site / "crema_radar-0.2.0.dist-info" / "direct_url.json").write_text(json.dumps(record))
    packages = {package["name"]: package for package in examine([str(site)]).describe()["packages"]}
    assert (packages["crema-radar"]["editable"], packages["crema-radar"]["source"]) == (
        True,
        "/home/me/my packages/crema-radar",
    )
    assert (packages["crema-sonar"]["editable"], packages["crema-sonar"]["source"]) == (False, "")
    monkeypatch.syspath_prepend(str(site))
    registry.refresh()
    main(["plugins", "doctor"])
    assert f"/home/me/my packages/crema-radar (editable; metadata in {site})" in capsys.readouterr().out
    monkeypatch.undo()
    registry.refresh()
