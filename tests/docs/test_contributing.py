"""What a contributor reads and what runs for them agree with the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import crema_core
from crema_core.plugins.groups import GROUPS
from tests.test_architecture import ROOMS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^\|---.*\n((?:\|.*\n)+)", TEXT, flags=re.M)
PYTHONS = ["3.11", "3.12"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def first_cells(table: str) -> list[str]:
    return [line.split("`")[1] for line in table.splitlines()]


def test_the_map_names_every_room_of_core_in_the_order_of_imports() -> None:
    assert [name.removesuffix("/").removesuffix(".py") for name in first_cells(TABLES[1])] == ROOMS


def test_every_path_it_names_exists() -> None:
    named = re.findall(r"`((?:crema_core|plugins|tests|docs|\.github|\.ci)/[\w./-]*)`", TEXT)
    named += re.findall(r"\]\((?!http)([^)#]+)", TEXT)
    assert len(named) > 30
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_every_group_of_entry_points_is_explained() -> None:
    (table,) = (table for table in TABLES if "crema.modalities" in table)
    assert {line.split("`")[1] for line in table.splitlines()} == set(GROUPS)


def test_its_commands_are_targets() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, flags=re.M))
    assert named
    assert named <= set(targets)


def test_workflows_run_what_a_contributor_runs_on_every_python_supported() -> None:
    test, wheels, publish = (read(f".github/workflows/{name}.yml") for name in ("test", "wheels", "publish"))
    job = test["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    (build,) = (step for step in wheels["jobs"]["wheels"]["steps"] if "run" in step)
    assert build["run"] == "make wheels"
    assert build["env"]["REPOSITORY_URL"] == "${{ github.server_url }}/${{ github.repository }}"
    last = publish["jobs"]["publish"]
    assert set(last["needs"]) == {"test", "wheels"}
    assert last["permissions"] == {"id-token": "write"}
    # YAML reads the key `on` as True.
    assert set(publish[True]) == {"push"}
    assert "tags" in publish[True]["push"]
    assert all("workflow_call" in one[True] for one in (test, wheels))


def test_the_pythons_of_the_workflow_are_those_of_every_package() -> None:
    for path in (ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        assert project["requires-python"] == ">=3.11,<3.13", path


def test_hooks_before_a_commit_run_the_tools_of_the_environment() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert [entry.split()[0] for entry in entries] == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]


def test_every_issue_form_asks_for_the_doctors_output() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert len(forms) == 3
    for path in forms:
        labels = [field["attributes"]["label"] for field in read(str(path.relative_to(ROOT)))["body"]]
        assert "Output of crema plugins doctor" in labels, path


def test_the_citation_has_the_version_and_the_licence() -> None:
    citation = read("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == crema_core.__version__
    assert citation["license"] == project["license"]
