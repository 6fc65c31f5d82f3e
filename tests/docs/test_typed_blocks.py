"""Every Python block of the README and of the pages is type-checked, strictly, as the code is; `make lint` does it too.

By hand: python -m tests.docs.test_typed_blocks. A block is a module of its own, below names that blocks of a session
have from earlier ones; blocks that are files or parts of one are put together as their page says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in ROOT.glob("docs/**/*.md") if page.name != "api.md"),  # that one has signatures alone
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
BLOCK = re.compile(r'^```python(?! title="[^"]* in [0-9.]+")(?: [^\n]*)?\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)
"""Blocks, without files of one of several releases: these stand beside no other, and their page's test runs them."""
SESSION = {
    "crema_core": "import crema_core",
    "Path": "from pathlib import Path",
    "clip": "import numpy; clip = numpy.zeros((16, 240, 320, 3), numpy.uint8)",
    "model": "import crema_core; model = crema_core.load('model')",
}
"""What a block has from earlier ones: name -> how it came about, for blocks that use the name and do not make it."""
FILES = {("README.md", 1): "crema_radar/plugin.py", ("README.md", 2): "crema_radar/modality.py"}
"""Blocks that are files of a package: page and number from 0 -> path."""
CONTINUED = {"docs/first_modality.md"}
"""Pages whose blocks are one program."""
KNOWN = ('"factory" to "ModalitySpec" has incompatible type "type[RadarModality]"; expected "str"',)
"""Accepted findings: `factory` takes a class, too, and keeps its name; pydantic's types have one type for both."""


def write_blocks(folder: Path) -> list[Path]:
    """Write every block as a file and return the files."""
    texts: dict[str, str] = {}
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for number, found in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
            stem = re.sub(r"\W", "_", name.removesuffix(".md"))
            path = FILES.get((name, number), f"{stem}.py" if name in CONTINUED else f"{stem}_{number}.py")
            texts[path] = texts[path] + found[1] if path in texts else _session(found[1]) + found[1]
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    for package in {path.parent for path in map(Path, texts) if path.parent != Path()}:
        (folder / package / "__init__.py").touch()
    return [folder / path for path in texts]


def _session(block: str) -> str:
    """Return one line with what the block needs, so that its line n is line n + 1 of its file."""
    needed = [
        line
        for name, line in SESSION.items()
        if re.search(rf"\b{name}\b", block)
        and not re.search(rf"^{name} = |^(from .*)?import .*\b{name}\b", block, re.M)
    ]
    return "; ".join(needed) + "\n"


def check(folder: Path) -> tuple[int, str]:
    """Return mypy's exit status and what it says of the blocks."""
    files = write_blocks(folder)
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "blocks"), *map(str, files)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "MYPYPATH": str(folder)}, capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).replace(f"{folder}/", "").splitlines(keepends=True)
    if done.returncode not in (0, 1) or not lines:
        return 2, "".join(lines) or "mypy printed nothing"
    found = [line for line in lines[:-1] if not any(known in line for known in KNOWN)]  # the last one counts them
    return int(bool(found)), "".join(found)


@pytest.mark.slow
def test_the_blocks_have_the_types_they_should(tmp_path: Path) -> None:
    status, said = check(tmp_path)
    assert status == 0, said


def test_every_block_is_written_once_and_files_of_a_package_stand_alone(tmp_path: Path) -> None:
    files = write_blocks(tmp_path)
    count = sum(len(BLOCK.findall(page.read_text(encoding="utf-8"))) for page in PAGES)
    continued = sum(len(BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))) - 1 for page in CONTINUED)
    assert len(files) == len(set(files)) == count - continued
    assert count >= 60
    assert "crema_core.load" not in (tmp_path / "crema_radar" / "plugin.py").read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found_status, text = check(Path(place))
    print(text, end="")
    sys.exit(found_status)
