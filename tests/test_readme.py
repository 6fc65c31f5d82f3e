"""Every block of the README is executed, in order, in one empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from crema_core.data.data_file import read_data_file
from crema_core.plugins.spec import ModalitySpec
from crema_core.testing.check import checks_up_to
from tests.support.packages import needs, needs_names

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who has run the shell block."""
    place = tmp_path_factory.mktemp("reader")
    crema = f'crema() {{ "{sys.executable}" -m crema_core.cli.main "$@"; }}\nset -euo pipefail\n'
    done = subprocess.run(
        ["bash", "-c", crema + "\n".join(blocks("bash"))], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_the_console_commands_are_targets_of_the_makefile() -> None:
    (console,) = blocks("console")
    commands = console.split("\n")[:-1]
    assert commands == ["make demo", "make test"]
    for command in commands:
        shown = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert "crema demo" in shown or "pytest" in shown


@needs_names("modality", "audio")
def test_the_data_line_is_a_data_file(tmp_path: Path) -> None:
    (line,) = blocks("json")
    for name in ("clips/1.mp4", "clips/1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mine.jsonl").write_text(json.dumps(json.loads(line)) + "\n")
    (record,) = read_data_file(tmp_path / "mine.jsonl")
    assert set(record.sources) == {"video", "audio"}


@pytest.mark.slow
@needs("crema-world", "crema-audio")
def test_the_shell_block_leaves_a_trained_model(folder: Path) -> None:
    assert (folder / "runs" / "mine" / "model" / "crema.json").is_file()


@pytest.mark.slow
@needs("crema-world", "crema-audio", "crema-geometry", "crema-thermal")
def test_the_script_runs(folder: Path) -> None:
    script = blocks("python")[0]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "GFLOPs" in done.stdout
    assert done.stdout.rstrip().endswith("('video', 'depth')")
    assert (folder / "audio-adapter" / "adapter.json").is_file()


@pytest.mark.slow
def test_the_radar_package_is_a_working_modality(tmp_path: Path) -> None:
    plugin, modality = blocks("python")[1:]
    package = tmp_path / "crema_radar"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(plugin)
    (package / "modality.py").write_text(modality)
    assert len([line for line in (plugin + modality).splitlines() if line.strip()]) <= 60
    use = (
        "import torch, crema_core\n"
        "from crema_radar.plugin import SPEC\n"
        "model = crema_core.build(modalities=['video', SPEC], backbone='crema-tiny')\n"
        "example = model.branch('radar').modality.example(torch.Generator())\n"
        "print(model.answer('which object is nearest?', radar=example).used)\n"
        "import crema_radar.modality as own\n"
        "try:\n"
        "    model.answer('which?', radar=example[0])\n"
        "except own.MediaError as error:\n"
        "    print('refused')\n"
        "from crema_core.testing import check_modality\n"
        "report = check_modality(SPEC)\n"
        "print(*(own.check for own in report.findings), len(report.results))\n"
        "print(*(own.message for own in report.results if own.status == 'skipped'), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer, refused, findings, *skipped = done.stdout.splitlines()
    assert (answer, refused, findings) == ("('radar',)", "refused", str(len(checks_up_to("gold")))), done.stdout
    assert set(skipped) == {"the spec was given in this process; install its package to check this"}


def test_the_packages_entry_point_names_the_spec() -> None:
    (text,) = blocks("toml")
    project = tomllib.loads(text)["project"]
    assert project["entry-points"]["crema.modalities"] == {"radar": "crema_radar.plugin:SPEC"}
    space: dict[str, object] = {}
    exec(compile(blocks("python")[1], "plugin.py", "exec"), space)
    assert isinstance(space["SPEC"], ModalitySpec)
    assert space["SPEC"].name == "radar"


def tree() -> dict[str, list[str]]:
    """Return the tree the README draws: folder of the repository -> names in it."""
    part = (ROOT / "README.md").read_text().partition("## What is where\n\n```\n")[2]
    found: dict[str, list[str]] = {}
    for line in part.partition("```")[0].splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            found[list(found)[-1]].append(name)
        else:
            found[name] = []
    return found


def test_every_file_and_folder_of_the_tree_exists() -> None:
    for folder, names in tree().items():
        assert all((ROOT / folder / name).exists() for name in ("", *names)), folder


def test_the_tree_has_every_room_in_the_order_of_imports_and_every_package() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text().partition("## The map")[2]
    assert tree()["crema_core/"] == re.findall(r"^\| `([a-z]+(?:/|\.py))` \|", contributing, flags=re.M)
    packages = {f"{path.parent.name}/" for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert set(tree()["plugins/"]) == packages


def test_images_links_and_anchors_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text()):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), flags=re.M) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, target


def test_packages_are_installed_by_the_names_they_have() -> None:
    (text,) = blocks("sh")
    named = set(re.findall(r"crema-[a-z0-9]+", text))
    assert named == {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")} | {"crema-core"}
