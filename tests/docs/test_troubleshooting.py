"""Troubleshooting: every error class has its heading, and every block raises the message below it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from crema_core import errors
from tests.support.packages import needs_names

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n((?:^> [^\n]*\n)+))?", flags=re.M | re.S)


def test_every_error_class_has_a_heading() -> None:
    base = {errors.CremaError, errors.PluginError}
    classes = {
        name
        for name, own in inspect.getmembers(errors, inspect.isclass)
        if issubclass(own, errors.CremaError) and own not in base
    }
    assert set(re.findall(r"^### (\w+)$", PAGE, flags=re.M)) == classes


@needs_names("modality")
@needs_names("fusion")
def test_every_block_raises_the_message_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "")  # a block sets it; this puts it back afterwards
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) >= 9
    for code, quote in blocks:
        if not quote:
            exec(code, names)
            continue
        with pytest.raises(errors.CremaError) as caught:
            exec(code, names)
        assert str(caught.value) == "\n".join(line.removeprefix("> ") for line in quote.splitlines())
