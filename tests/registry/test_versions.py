"""Every version of the contract has its checked-in file and its section in the page of changes."""

from __future__ import annotations

import re
from pathlib import Path

from crema_core.plugins.spec import API_VERSION

ROOT = Path(__file__).parents[2]


def test_every_version_of_the_contract_has_its_file_and_its_changes() -> None:
    text = (ROOT / "docs" / "plugin-api-changes.md").read_text(encoding="utf-8")
    described = re.findall(r"^## (\d+\.\d+)", text, flags=re.MULTILINE)
    kept = sorted(path.stem.removeprefix("contract-") for path in Path(__file__).parent.glob("contract-*.json"))
    assert sorted(described) == kept
    assert described[0] == API_VERSION
