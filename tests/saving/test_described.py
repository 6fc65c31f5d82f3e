"""The description of a saved folder is whole and of this version's format, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crema_core.common.atomic import new_folder
from crema_core.errors import CheckpointError
from crema_core.saving.adapters import read_described


def saved(place: Path, text: str) -> Path:
    with new_folder(place) as folder:
        (folder / "box.json").write_text(text, encoding="utf-8")
    return place


def read(place: Path) -> dict[str, Any]:
    return read_described(place, "box.json", what="box", writer="pack", accepted=2)


def test_a_description_of_this_format_is_returned(tmp_path: Path) -> None:
    content = {"format": 2, "inside": "café"}
    assert read(saved(tmp_path / "box", json.dumps(content, ensure_ascii=False))) == content


@pytest.mark.parametrize(("text", "reason"), [
    ("{", "it is not JSON (Expecting property name enclosed in double quotes at column 2)"),
    ("{}", "it states no format"),
    ("[]", "it holds a list instead of an object in braces"),
])  # fmt: skip
def test_a_damaged_description_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    place = saved(tmp_path / "box", text)
    with pytest.raises(CheckpointError) as caught:
        read(place)
    assert str(caught.value) == (
        f"'{place / 'box.json'}' cannot be read: {reason}. It must be the JSON file pack wrote. Copy the folder again. "
        "Nothing was changed."
    )


def test_another_format_is_refused(tmp_path: Path) -> None:
    place = saved(tmp_path / "box", '{"format": 3}')
    with pytest.raises(CheckpointError) as caught:
        read(place)
    assert str(caught.value) == (
        f"'{place}' has box format 3. This version reads format 2. Upgrade crema-core. Nothing was changed."
    )
