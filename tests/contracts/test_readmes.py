"""The options tables in the plugins' READMEs say what the options are."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from crema_core.plugins.spec import ModalitySpec

PLUGINS = Path(__file__).parents[2] / "plugins"
SPECS = [
    ("crema-3d", "crema_3d.plugin", "SPEC"),
    ("crema-audio", "crema_audio.plugin", "SPEC"),
    ("crema-geometry", "crema_geometry.plugin", "DEPTH"),
    ("crema-geometry", "crema_geometry.plugin", "FLOW"),
    ("crema-geometry", "crema_geometry.plugin", "NORMALS"),
    ("crema-thermal", "crema_thermal.plugin", "SPEC"),
    ("crema-touch", "crema_touch.plugin", "SPEC"),
]


def options_table(spec: ModalitySpec) -> str:
    """Return the markdown table of a sense's options."""
    rows = [
        f"| `{name}` | `{field.default!r}` | {field.description} |" for name, field in spec.options.model_fields.items()
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


@pytest.mark.parametrize(("folder", "module", "name"), SPECS)
def test_a_readme_lists_the_options_as_they_are(folder: str, module: str, name: str) -> None:
    spec: ModalitySpec = getattr(importlib.import_module(module), name)
    assert options_table(spec) in (PLUGINS / folder / "README.md").read_text()


@pytest.mark.parametrize("folder", sorted({folder for folder, _, _ in SPECS}))
def test_a_readme_begins_with_an_example_of_three_lines(folder: str) -> None:
    text = (PLUGINS / folder / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    compile(example, folder, "exec")
    assert len([line for line in example.splitlines() if line]) == 3
