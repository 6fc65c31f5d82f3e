"""The contract's live signatures are those of the checked-in file: changing one needs a new `API_VERSION`.

To write the file of a new version, and what type checkers read: python -m tests.registry.test_contract_file
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

from crema_core import contract as contract_module
from crema_core.contract import _HOMES, EXTENSIONS
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins import hookspecs
from crema_core.plugins.spec import (
    API_VERSION,
    Asset,
    Capabilities,
    InputSpec,
    MMQASpec,
    ModalityOptions,
    ModalitySpec,
)

STUB = Path(contract_module.__file__).with_suffix(".pyi")
FILE = Path(__file__).with_name(f"contract-{API_VERSION}.json")


def contract() -> dict[str, Any]:
    models = (ModalitySpec, InputSpec, MMQASpec, Asset, Capabilities, ModalityOptions)
    events = {name: value for name, value in vars(hookspecs).items() if name.startswith("crema_")}
    return {
        "settings": {
            model.__name__: {name: str(field.annotation) for name, field in model.model_fields.items()}
            for model in models
        },
        "modality": {
            name: str(inspect.signature(getattr(Modality, name)))
            for name in ("__init__", "prepare", "collate", "encode", "example", "load_assets", "load_shapes", "show")
        },
        "data": {kind.__name__: str(inspect.signature(kind)) for kind in (Sample, Batch, Features, BuildContext)},
        "hooks": {name: str(inspect.signature(event)) for name, event in sorted(events.items())},
        "public": {
            module: {name: _parameters(getattr(importlib.import_module(module), name)) for name in sorted(names)}
            for module, names in sorted(EXTENSIONS.items())
        },
    }


def _parameters(thing: object) -> list[str] | str:
    """Return the names of a function's or class's arguments, else the kind of thing it is."""
    try:
        return list(inspect.signature(thing).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return type(thing).__name__


def test_live_signatures_are_those_of_the_file() -> None:
    assert contract() == json.loads(FILE.read_text(encoding="utf-8"))


def stub() -> str:
    """Return what type checkers read instead of `crema_core/contract.py`, which looks names up when they are used."""
    homes = sorted(_HOMES.items(), key=lambda own: (own[1], own[0]))
    lines = [f"from {module} import {name} as {name}" for name, module in homes]
    return (
        '"""Written by tests/registry/test_contract_file.py from contract.yaml, for type checkers."""\n\n'
        "# ruff: noqa: I001\nfrom collections.abc import Mapping\n\n"
        + "\n".join(lines)
        + "\n\nEXTENSIONS: Mapping[str, tuple[str, ...]]\nTOOLS: Mapping[str, tuple[str, ...]]\n"
    )


def test_type_checkers_read_the_names_of_the_contract() -> None:
    assert STUB.read_text(encoding="utf-8") == stub()


if __name__ == "__main__":
    FILE.write_text(json.dumps(contract(), indent=2) + "\n", encoding="utf-8")
    STUB.write_text(stub(), encoding="utf-8")
