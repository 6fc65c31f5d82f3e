"""The directory of known packages is what the packages of this repository declare.

To write it after an entry point was added: python -m tests.registry.test_directory
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from crema_core.plugins import groups, registry
from crema_core.plugins.groups import KINDS
from tests.support.packages import needs

ROOT = Path(__file__).parents[2]
PROJECTS = [
    tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))
]
WITH_HOOKS = [own["name"] for own in PROJECTS if KINDS["hook"].group in own["entry-points"]]
FILE = Path(groups.__file__).with_name("directory.json")


def declared() -> dict[str, dict[str, str]]:
    """Return kind -> name -> distribution, as the `pyproject.toml` files say."""
    found: dict[str, dict[str, str]] = {kind.name: {} for kind in KINDS.values() if not kind.broadcast}
    for project in [tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"], *PROJECTS]:
        for kind, names in found.items():
            names |= dict.fromkeys(project["entry-points"].get(KINDS[kind].group, ()), project["name"])
    found["verb"] = _verbs()
    return {kind: dict(sorted(names.items())) for kind, names in found.items()}


def _verbs() -> dict[str, str]:
    """Return verb -> distribution, as the hooks of the installed packages of this repository offer them."""
    hooks = [found for found in registry.providers("hook") if found.distribution in WITH_HOOKS]
    return {
        command.name: found.distribution
        for found in hooks
        if hasattr(module := found.load(), "crema_register_commands")
        for command in module.crema_register_commands()
    }


KINDS_DECLARED = [*(kind.name for kind in KINDS.values() if not kind.broadcast), "verb"]


def test_the_directory_has_every_kind() -> None:
    assert list(json.loads(FILE.read_text(encoding="utf-8"))) == KINDS_DECLARED, __doc__


@pytest.mark.parametrize(
    "kind", [pytest.param(own, marks=needs(*WITH_HOOKS) if own == "verb" else ()) for own in KINDS_DECLARED]
)
def test_the_directory_knows_every_first_party_package(kind: str) -> None:
    assert json.loads(FILE.read_text(encoding="utf-8"))[kind] == declared()[kind], __doc__


if __name__ == "__main__":
    FILE.write_text(json.dumps(declared(), indent=2) + "\n", encoding="utf-8")
