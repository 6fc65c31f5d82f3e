"""The first page of the site: its example prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.M | re.S)
    return str(text)


@pytest.mark.slow
def test_the_example_prints_what_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("crema_world")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", block("python")],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == block("text")


def test_the_example_has_eight_lines() -> None:
    assert len([line for line in block("python").splitlines() if line]) == 8


def test_every_package_has_its_install_line() -> None:
    named = re.findall(r"crema-[\w]+", re.sub(r"#.*", "", block("sh")))
    packages = [ROOT, *sorted((ROOT / "plugins").glob("crema-*"))]
    projects = [tomllib.loads((one / "pyproject.toml").read_text(encoding="utf-8"))["project"] for one in packages]
    assert sorted(named) == sorted(project["name"] for project in projects)


def test_pictures_exist_and_are_drawn_for_light_and_dark() -> None:
    pictures = re.findall(r"images/[\w-]+\.\w+", PAGE)
    assert set(pictures) == {"images/flow.svg", "images/flow-narrow.svg", "images/demo_report.png"}
    for name in pictures:
        place = ROOT / "docs" / name
        assert place.is_file()
        if place.suffix == ".svg":
            assert "prefers-color-scheme: dark" in place.read_text(encoding="utf-8")


def test_every_page_of_the_site_is_in_reach_of_the_first() -> None:
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\(([\w/-]+\.md)\)", PAGE))
