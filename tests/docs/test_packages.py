"""The directory of known packages: entries are whole, sorted and distinct, and ours are what our packages declare."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from crema_core.plugins.groups import KINDS, directory

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "packages.json"
PACKAGES: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "reference" / "packages.md").read_text(encoding="utf-8")
FIELDS = ["package", "summary", "license", "source", "provides"]


def problems(entry: dict[str, Any]) -> list[str]:
    """Return what is wrong with an entry, each with what is expected."""
    if list(entry) != FIELDS:
        return [f"{entry.get('package', entry)} has the fields {', '.join(entry)}. Expected: {', '.join(FIELDS)}."]
    found = []
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry["package"]):
        found.append(f"'{entry['package']}' is not a distribution's name in its usual spelling, such as crema-radar.")
    for field in ("summary", "license"):
        if not entry[field].strip() or "\n" in entry[field]:
            found.append(f"{entry['package']}: {field} is one line of text.")
    if not (entry["source"].startswith("https://") or (ROOT / entry["source"] / "pyproject.toml").is_file()):
        found.append(f"{entry['package']}: source is an address that begins with https://.")
    kinds = [*KINDS, "verb"]
    unknown = [kind for kind in entry["provides"] if kind not in kinds]
    if unknown or not entry["provides"]:
        found.append(f"{entry['package']}: provides names by kind, one or more of {', '.join(kinds)}; not {unknown}.")
    return found


def test_every_entry_is_whole() -> None:
    assert [text for entry in PACKAGES for text in problems(entry)] == []


def test_a_wrong_entry_is_named_with_what_is_expected() -> None:
    right = {
        "package": "crema-eeg",
        "summary": "EEG.",
        "license": "MIT",
        "source": "https://example.org/eeg",
        "provides": {"modality": ["eeg"]},
    }
    assert problems(right) == []
    assert problems({"package": "crema-eeg"})[0].startswith("crema-eeg has the fields package. Expected: package, ")
    for field, value in (
        ("package", "Crema_EEG"), ("summary", ""), ("license", "a\nb"), ("source", "example.org"),
        ("provides", {"sense": []}), ("provides", {}),
    ):  # fmt: skip
        assert len(problems(right | {field: value})) == 1, field


def test_entries_are_sorted_and_no_name_is_provided_twice() -> None:
    names = [entry["package"] for entry in PACKAGES]
    assert names == sorted(set(names))
    core = [
        (kind, name) for kind, own in directory().items() for name, package in own.items() if package == "crema-core"
    ]
    provided = [(kind, name) for entry in PACKAGES for kind, own in entry["provides"].items() for name in own]
    assert [name for name, count in Counter([*core, *provided]).items() if count > 1] == []


def test_ours_are_there_as_they_declare_themselves() -> None:
    by_name = {entry["package"]: entry for entry in PACKAGES}
    for file in ROOT.glob("plugins/*/pyproject.toml"):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        entry = by_name[project["name"]]
        assert (entry["summary"], entry["license"]) == (project["description"], project["license"])
        assert entry["source"] == f"plugins/{project['name']}"
        for kind, own in directory().items():
            names = [name for name, package in own.items() if package == project["name"]]
            assert entry["provides"].get(kind, []) == names, kind


def test_the_page_has_a_command_for_each_on_a_line_of_its_own() -> None:
    for entry in PACKAGES:
        section = PAGE.split(f"\n## {entry['package']}\n")[1].split("\n## ")[0]
        (block,) = re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
        assert block == f"pip install {entry['package']}\nuv pip install {entry['package']}\n"


def test_the_directory_is_not_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert not FILE.is_relative_to(ROOT / "crema_core")
    assert all(not name.startswith("docs") for name in settings["packages"]["find"]["include"])
