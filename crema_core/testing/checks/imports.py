"""Bronze: what listing pays for the package, measured in a fresh process."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crema_core.plugins.loading import HEAVY_MODULES
from crema_core.testing.check import check, require
from crema_core.testing.probing import light_import
from crema_core.testing.subject import Subject

MOST_SECONDS = 0.3
TRIES = 3


@check("bronze", needs=("entry_point_names_a_spec",), package=True)
def declaration_is_light(subject: Subject) -> None:
    """Importing the declaration imports neither torch nor transformers, peft or numpy.

    Why: `crema plugins list`, `--help` and every lookup import it; one package that imports torch there makes each of
    these take seconds for all users.
    Fix: keep `plugin.py` to pydantic and core's `plugins.spec`; name the class by the text `factory`, and import heavy
    libraries in its file.
    """
    facts = _first_import(subject)
    heavy = [name for name in HEAVY_MODULES if name in facts["modules"]]
    require(
        not heavy,
        f"{subject.module} imports {', '.join(heavy)}. Listing imports it, so it must stay light. Import them in the "
        "class's file.",
    )


@check("bronze", needs=("entry_point_names_a_spec", "declaration_is_light"), package=True)
def declaration_is_quick(subject: Subject) -> None:
    """Importing the declaration takes less than 0.3 s beyond core's own; the best of three tries counts.

    Why: it is paid at every start of the command, and by all packages together.
    Fix: leave reading of files, downloads and computation to the class's `__init__`, `load_assets` and `prepare`.
    """
    best = min(_until_quick(subject))
    require(
        best <= MOST_SECONDS,
        f"Importing {subject.module} takes {best:.1f} s. Accepted are {MOST_SECONDS} s. Move work to the class's file.",
    )


@check("bronze", needs=("entry_point_names_a_spec",), package=True)
def package_init_imports_nothing(subject: Subject) -> None:
    """The package's `__init__.py` imports nothing but the standard library.

    Why: importing `plugin.py` runs it, so what it imports is imported by every listing, today or after the next edit.
    Fix: keep a docstring and `__version__` in `__init__.py`; users import from the modules.
    """
    imported = [
        f"{name} ({place.name}/__init__.py)"
        for place in subject.packages
        for name in _imports(place / "__init__.py")
        if name.partition(".")[0] not in sys.stdlib_module_names
    ]
    require(
        not imported,
        f"A package's __init__ imports {', '.join(imported)}. It runs at every listing. Move the import to a module.",
    )


def _first_import(subject: Subject) -> dict[str, Any]:
    return subject.share("light import", lambda: light_import(subject.module))


def _until_quick(subject: Subject) -> Iterator[float]:
    seconds = float(_first_import(subject)["seconds"])
    yield seconds
    for _ in range(TRIES - 1):
        if seconds <= MOST_SECONDS:
            return
        seconds = float(light_import(subject.module)["seconds"])
        yield seconds


def _imports(path: Path) -> Iterator[str]:
    """Yield what a file imports when it is imported itself: at its top, outside `if TYPE_CHECKING` and functions."""
    if not path.exists():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield "." * node.level + (node.module or "")
