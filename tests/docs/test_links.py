"""READMEs on a package index: every link and picture has a whole address, made from one setting."""

from __future__ import annotations

import re
import runpy
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.dummies import build_wheels

ROOT = Path(__file__).parents[2]
LINKS = runpy.run_path(str(ROOT / "docs" / "links.py"))
URL = "https://example.org/owner/name"
PACKAGES: list[Path] = list(LINKS["packages"](ROOT))


def rewritten(text: str, folder: Path = ROOT) -> str:
    return str(LINKS["with_whole_addresses"](text, folder=folder, root=ROOT, repository_url=URL + "/"))


def test_links_pictures_folders_and_anchors_are_told_apart() -> None:
    text = "[a](docs/speed.md#x) ![b](docs/images/demo_report.png) [c](examples) [d](#here) [e](https://example.com/f)"
    assert rewritten(text) == (
        f"[a]({URL}/blob/HEAD/docs/speed.md#x) ![b]({URL}/raw/HEAD/docs/images/demo_report.png) "
        f"[c]({URL}/tree/HEAD/examples) [d](#here) [e](https://example.com/f)"
    )


def test_a_link_is_relative_to_its_page() -> None:
    page = ROOT / "plugins" / "crema-touch"
    assert rewritten("[CREMA](../../README.md)", page) == f"[CREMA]({URL}/blob/HEAD/README.md)"


def test_a_picture_that_is_a_link_gets_both_addresses() -> None:
    text = "[![b](docs/images/demo_report.png)](docs/world.md)"
    assert rewritten(text) == f"[![b]({URL}/raw/HEAD/docs/images/demo_report.png)]({URL}/blob/HEAD/docs/world.md)"


def test_code_is_left_alone() -> None:
    text = "[a](LICENSE)\n\n```python\nparts[0](LICENSE)\n```\n\n[b](LICENSE)\n"
    assert rewritten(text).count(URL) == 2
    assert "parts[0](LICENSE)" in rewritten(text)


@pytest.mark.parametrize("target", ["docs/absent.md", "../outside.md"])
def test_a_link_to_nothing_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="which is no file of the repository"):
        rewritten(f"[a]({target})")


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_no_readme_keeps_a_relative_address(folder: Path) -> None:
    text = rewritten((folder / "README.md").read_text(encoding="utf-8"), folder)
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)]*)\)", prose)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert re.findall(r"^\[[^\]]+\]:|(?:src|href)=", prose, flags=re.M) == []  # forms that are not rewritten


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the touch package and its README need."""
    place = tmp_path / "copy"
    place.mkdir()
    for file in ROOT.glob("*.*"):
        if file.is_file():
            shutil.copy(file, place)
    shutil.copy(ROOT / "LICENSE", place)
    for name in ("docs", "examples", "plugins/crema-touch"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    return place


@pytest.mark.slow
def test_a_wheel_carries_whole_addresses_and_urls(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPOSITORY_URL", URL)
    LINKS["main"](str(copy))
    LINKS["main"](str(copy))  # a second time changes nothing
    (wheel,) = build_wheels([copy / "plugins" / "crema-touch"], tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = archive.read(name).decode()
    assert f"Project-URL: Source, {URL}\n" in metadata
    assert f"({URL}/blob/HEAD/README.md)" in metadata
    assert tomllib.loads((copy / "pyproject.toml").read_text())["project"]["urls"]["Issues"] == f"{URL}/issues"


def test_without_the_setting_nothing_is_written(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REPOSITORY_URL", raising=False)
    LINKS["main"](str(copy))
    assert capsys.readouterr().out == (
        "REPOSITORY_URL is not set: links stay relative, and packages are built without [project.urls].\n"
    )
    assert (copy / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
    assert (copy / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()


def test_a_checkout_and_a_word_that_is_no_address_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPOSITORY_URL", "owner/name")
    with pytest.raises(ValueError, match="is no address"):
        LINKS["main"](str(copy))
    monkeypatch.setenv("REPOSITORY_URL", URL)
    (copy / ".git").mkdir()
    with pytest.raises(ValueError, match="is a checkout"):
        LINKS["main"](str(copy))
    assert (copy / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
