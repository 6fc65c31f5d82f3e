"""The page of the public names is what the docstrings say, and has all of them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import NamedTuple

import crema_core
import crema_core.testing

DOCS = Path(__file__).parents[2] / "docs"
API = runpy.run_path(str(DOCS / "api.py"))
PAGE = (DOCS / "api.md").read_text(encoding="utf-8")


class Box(NamedTuple):
    """A box.

    Attributes:
        width, height: in metres; a wide one
            is broad.

    It is empty.

    Example:
        >>> Box(1, 2)    # doctest: +SKIP
    """

    width: float
    height: float | None = None


def lift(box: Box, *others: Box, high_m: float = 1.0, **more: object) -> Box | None:
    """Lift it.

    Returns:
        the box.

    Raises:
        os.error: when it is heavy.
    """
    return None if more or others or high_m > 1 else box


def test_the_page_is_what_the_code_says() -> None:
    assert API["page"]() == PAGE, "run: python docs/api.py"


def test_every_public_name_has_a_section() -> None:
    names = [f"crema_core.{name}" for name in crema_core.__all__]
    names += [f"crema_core.testing.{name}" for name in crema_core.testing.__all__]
    assert [name for name in names if f"\n## {name}\n" not in PAGE] == []
    assert "\n### CremaModel.answer()\n" in PAGE
    assert "\n### registry.register()\n" in PAGE


def test_a_class_is_written_with_its_attributes_and_example() -> None:
    assert API["part"]("toys.Box", Box) == (
        "## toys.Box\n\n```python\nBox(width: float, height: float | None = None)\n```\n\nA box.\n\nAttributes:\n\n"
        "- `width`, `height`: in metres; a wide one\n    is broad.\n\nIt is empty.\n\n```python\n>>> Box(1, 2)\n```"
    )


def test_a_function_is_written_with_its_arguments_and_errors() -> None:
    assert API["part"]("toys.lift", lift) == (
        "## toys.lift\n\n```python\nlift(box: Box, *others: Box, high_m: float = 1.0, **more: object) -> Box | None\n"
        "```\n\nLift it.\n\nReturns: the box.\n\nRaises:\n\n- `os.error`: when it is heavy."
    )
