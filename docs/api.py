"""Write the page of the public names from their docstrings: `python docs/api.py`; `make docs` runs it.

Public is what `crema_core.__all__` and `crema_core.testing.__all__` name, and what `crema_core.registry` defines. A
test compares the page with what this writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ForwardRef

from pydantic import BaseModel

import crema_core

PAGE = Path(__file__).with_name("api.md")
NOTE = "<!-- Written by docs/api.py from the code. -->"
WIDTH = 100
LISTED = {"Args", "Attributes", "Raises"}
HEADING = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$", re.M)
FIELDS = "Fields: [what a spec declares](reference/spec.md)."


def page() -> str:
    """Return the page."""
    parts = [f"# Public names\n\n{NOTE}", (inspect.getdoc(crema_core) or "")]
    for name in crema_core.__all__:
        value = getattr(crema_core, name)
        parts.append(registry_part(value) if isinstance(value, ModuleType) else part(f"crema_core.{name}", value))
    testing = importlib.import_module("crema_core.testing")
    parts += [part(f"crema_core.testing.{name}", getattr(testing, name)) for name in testing.__all__]
    return "\n\n".join(parts) + "\n"


def part(name: str, value: Any) -> str:
    """Return the section of a function, a class with its members, or a constant."""
    if not callable(value):
        return f"## {name}\n\n`{value!r}`"
    declared = isinstance(value, type) and issubclass(value, BaseModel)
    lines = [f"## {name}", *([] if declared else [_signature(name.rpartition(".")[2], value)]), text(value)]
    if declared and value.model_fields:
        lines.append(FIELDS)
    if isinstance(value, type):
        lines += [_member(value.__name__, *own) for own in members(value)]
    return "\n\n".join(lines)


def registry_part(module: ModuleType) -> str:
    """Return the section of a module's own functions that have no other public name."""
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    lines = ["## crema_core.registry", (inspect.getdoc(module) or "")]
    lines += [
        _member("registry", name, value) for name, value in own.items() if getattr(crema_core, name, None) is not value
    ]
    return "\n\n".join(lines)


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Yield the documented members a class of ours defines, its own and those of our classes it derives from."""
    found: dict[str, Any] = {}
    for own in reversed(owner.__mro__):
        if own.__module__.startswith("crema_core"):
            found |= vars(own)
    for name, value in found.items():
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if (
            not name.startswith("_")
            and inspect.getdoc(plain)
            and isinstance(plain, property) | inspect.isfunction(plain)
        ):
            yield name, plain


def text(value: Any) -> str:
    """Return a docstring as Markdown: lists of arguments, attributes and errors, examples as code."""
    first, *sections = HEADING.split(inspect.getdoc(value) or "")
    parts = [first.strip()]
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        block, after = _block(body)
        if heading == "Example":
            code = re.sub(r" +# doctest: .*$", "", block, flags=re.M)
            parts.append(f"```python\n{code}\n```")
        elif heading in LISTED:
            parts.append(f"{heading}:\n\n" + re.sub(r"^([\w*][\w, *.]*): ", _entry, block, flags=re.M))
        else:
            parts.append(f"Returns: {block}")
        parts += [after] if after else []
    return "\n\n".join(parts)


def _entry(found: re.Match[str]) -> str:
    return f"- {', '.join(f'`{name.strip()}`' for name in found[1].split(','))}: "


def _block(body: str) -> tuple[str, str]:
    """Split what is indented below a heading from what follows it."""
    lines = body.strip("\n").split("\n")
    end = next((at for at, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return inspect.cleandoc("\n" + "\n".join(lines[:end])).strip(), "\n".join(lines[end:]).strip()


def _member(owner: str, name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"### {owner}.{name}\n\n{text(value)}"
    return f"### {owner}.{name}()\n\n{_signature(name, value)}\n\n{text(value)}"


def _signature(name: str, value: Any) -> str:
    """Return how it is called, in one line or with a line per argument; annotations as they are written."""
    signature = inspect.signature(value)
    arguments: list[str] = []
    kind = None
    for own in signature.parameters.values():
        if own.name in ("self", "cls"):
            continue
        if own.kind is own.KEYWORD_ONLY and kind not in (own.KEYWORD_ONLY, own.VAR_POSITIONAL):
            arguments.append("*")
        kind = own.kind
        stars = "*" if own.kind is own.VAR_POSITIONAL else "**" if own.kind is own.VAR_KEYWORD else ""
        hint = "" if own.annotation is own.empty else f": {_hint(own.annotation)}"
        default = "" if own.default is own.empty else f"{' = ' if hint else '='}{own.default!r}"
        arguments.append(f"{stars}{own.name}{hint}{default}")
    result = "" if isinstance(value, type) else f" -> {_hint(signature.return_annotation)}"
    line = f"{name}({', '.join(arguments)}){result}"
    if len(line) > WIDTH:
        line = f"{name}(\n    " + ",\n    ".join(arguments) + f",\n){result}"
    return f"```python\n{line}\n```"


def _hint(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
