"""The page for authors of published packages: its releases are installed one by one, and say what the page quotes."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from crema_core.errors import CremaError
from crema_core.plugins import registry
from tests.support.releases import Releases, write_metadata

PAGE = (Path(__file__).parents[2] / "docs" / "changing_a_package.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r'^```python(?: title="(\S+) in (\S+)")?\n(.*?)^```\n(?:\n((?:^> [^\n]*\n)+))?', flags=re.MULTILINE | re.DOTALL
)


def said(code: str, names: dict[str, Any]) -> str:
    """Run a block; return its error, or the first of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(code, names)
        except CremaError as error:
            return str(error)
    return str(caught[0].message) if caught else ""


@pytest.mark.slow
def test_every_release_says_what_the_page_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    releases = Releases(tmp_path / "releases", "crema_lidar", monkeypatch)
    names: dict[str, Any] = {}
    newest, quoted = Path(), 0
    try:
        for file, version, code, quote in BLOCK.findall(PAGE):
            if file:
                folder = releases.place / version
                if folder != newest:
                    folder.mkdir(parents=True)
                    if newest != Path():
                        shutil.copytree(newest / "crema_lidar", folder / "crema_lidar")
                    write_metadata(folder, "crema-lidar", version, entry="lidar = crema_lidar.plugin:SPEC")
                    newest = folder
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_text(code, encoding="utf-8")
                continue
            gone = PAGE.index(code) > PAGE.index("## When the package is gone")
            releases.install(None if gone else newest)
            found = said(code, names)
            if quote:
                quoted += 1
                assert found == "\n".join(line.removeprefix("> ") for line in quote.splitlines())
            else:
                assert "error" not in found.lower(), found
    finally:
        monkeypatch.undo()
        releases.forget()
        registry.refresh()
    assert quoted == 6
    assert (tmp_path / "passed-on" / "lidar" / "adapter.safetensors").is_file()


def test_the_tolerances_of_the_page_are_those_of_the_code() -> None:
    from crema_core.saving.fingerprint import TOLERANCES

    assert (
        f"{TOLERANCES['float32']:.1%} for float32, {TOLERANCES['float16']:.1%} for float16 and GPUs, "
        f"{TOLERANCES['bfloat16']:.1%} for bfloat16" in PAGE
    )
