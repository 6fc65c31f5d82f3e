"""Write a package of a new sense that works as it is: installs, passes its tests, reaches gold, trains.

```
crema-radar/
  pyproject.toml  README.md  LICENSE  CHANGELOG.md
  src/crema_radar/    __init__.py  plugin.py  modality.py  py.typed
  tests/test_conformance.py
  .github/workflows/test.yml
```
"""

from __future__ import annotations

import datetime
import string
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

import crema_core
from crema_core.common.atomic import fresh_folder
from crema_core.errors import OptionsError
from crema_core.plugins.names import PLACEHOLDERS
from crema_core.plugins.spec import API_VERSION, ModalitySpec

Encoder = Literal["own", "vision", "features"]
ENCODERS: tuple[Encoder, ...] = ("own", "vision", "features")

TEMPLATES = Path(__file__).with_name("templates")
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "CHANGELOG.md": "CHANGELOG.md",
    ".github/workflows/test.yml": "workflow.yml",
    "tests/test_conformance.py": "test_conformance.py",
    "src/{package}/__init__.py": "init.py",
    "src/{package}/plugin.py": "plugin_{encoder}.py",
    "src/{package}/modality.py": "modality_{encoder}.py",
}
"""File of the package -> template."""


def new_package(name: str, *, encoder: Encoder = "own", output: Path = Path()) -> Path:
    """Write a package that provides one sense.

    Args:
        name: the sense's name.
        encoder: "own" (an encoder in the package), "vision" (the backbone's) or "features" (computed before).
        output: folder the package's folder is made in.

    Returns:
        the package's folder, `crema-<name>` with dashes.

    Raises:
        OptionsError: for a name or an encoder that is not allowed, or a folder that exists; nothing was written.
    """
    _check_name(name)
    if encoder not in ENCODERS:
        raise OptionsError(
            f"'{encoder}' is no kind of encoder. Kinds: {', '.join(ENCODERS)}. Write --encoder own. Nothing was "
            "written."
        )
    distribution = f"crema-{name.replace('_', '-')}"
    place = output / distribution
    if place.exists():
        raise OptionsError(
            f"'{place}' exists. A new package needs a new folder. Name another with --output, or remove it. "
            "Nothing was written."
        )
    if output.exists() and not output.is_dir():
        raise OptionsError(f"'{output}' is a file. --output names a folder. Name another. Nothing was written.")
    with fresh_folder(place) as folder:
        _write(folder, name, encoder, distribution)
    return place


def _check_name(name: str) -> None:
    if name in PLACEHOLDERS:
        raise OptionsError(
            f"'{name}' is a placeholder. A sense is named after what it senses, for example 'radar'. Choose a name. "
            "Nothing was written."
        )
    try:
        ModalitySpec(name=name, summary="s", factory="package.module:Class", encoder="own", prefix="")
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise OptionsError(f"{reason} Nothing was written.") from None


def _write(folder: Path, name: str, encoder: Encoder, distribution: str) -> None:
    package = f"crema_{name}"
    major, minor, *_ = crema_core.__version__.split(".")
    values = {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "package": package,
        "distribution": distribution,
        "api_version": API_VERSION,
        "core_version": f"{major}.{minor}",
        "core_major": str(int(major) + 1),
        "year": str(datetime.datetime.now(tz=datetime.UTC).year),
    }
    for file, template in FILES.items():
        path = folder / file.format(package=package)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (TEMPLATES / f"{template.format(encoder=encoder)}.txt").read_text(encoding="utf-8")
        path.write_text(string.Template(text).substitute(values), encoding="utf-8")
    (folder / "src" / package / "py.typed").write_text("", encoding="utf-8")
