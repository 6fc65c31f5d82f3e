"""A package that is not installed, as if it were: its wheel, unpacked into a folder on the path for a while.

A source folder is built as a wheel first, so what is checked is what its users will get, data files included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crema_core.errors import PluginError
from crema_core.plugins import registry
from crema_core.plugins.spec import NAME_PATTERN
from crema_core.testing.check import MODULES, CheckedKind

LEFT_OUT = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__")


def is_path(text: str) -> bool:
    """Whether a word names a place and not a sense: it has a separator, ends in `.whl`, or is no legal name."""
    bare = text.rpartition(":")[2]
    return os.sep in text or text.endswith(".whl") or not NAME_PATTERN.fullmatch(bare)


@contextmanager
def unpacked(place: Path) -> Iterator[tuple[tuple[CheckedKind, str], ...]]:
    """Put a package's folder or wheel on the path and yield what can be checked: kind and `distribution:name`.

    Raises:
        PluginError: when there is no such package, it cannot be built, or it provides no modality and no fusion.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = place if place.suffix == ".whl" else _build(place, Path(folder) / "wheels")
        site = Path(folder) / "site"
        try:
            zipfile.ZipFile(wheel).extractall(site)
        except (OSError, zipfile.BadZipFile) as error:
            raise PluginError(
                f"'{place}' cannot be read as a wheel: {error}. Accepted is a folder with a pyproject.toml, or a .whl "
                "file. Check the path."
            ) from None
        sys.path.insert(0, str(site))
        registry.refresh()
        try:
            own = [
                (kind, f"{one.distribution}:{one.name}")
                for kind in MODULES
                for one in registry.providers(kind)
                if one.entry is not None and Path(one.entry.location) == site
            ]
            if not own:
                groups = " and ".join(registry.KINDS[kind].group for kind in MODULES)
                raise PluginError(
                    f"'{place}' provides no modality and no fusion: it has no entry point in the groups {groups}. Add "
                    f'one to its pyproject.toml: [project.entry-points."{registry.KINDS["modality"].group}"]'
                )
            yield tuple(own)
        finally:
            sys.path.remove(str(site))
            registry.refresh()


def _build(place: Path, wheels: Path) -> Path:
    if not (place / "pyproject.toml").is_file():
        raise PluginError(
            f"'{place}' has no pyproject.toml. Accepted is a package's folder, or a .whl file. Check the path, or name "
            "an installed sense."
        )
    # In a copy: building leaves folders behind, and a stale .egg-info would hide the package's next entry points.
    source = shutil.copytree(place, wheels.with_name("source"), ignore=shutil.ignore_patterns(*LEFT_OUT))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(wheels), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PluginError(
            f"'{place}' cannot be built as a wheel. The build tool it names must be installed here. "
            f"See: pip wheel --no-build-isolation {place}\n{(done.stderr or done.stdout).strip()}"
        )
    return next(wheels.glob("*.whl"))
