"""CREMA as a software kit: add modalities to a frozen vision-language model, each modality a pip-installable plugin.

The public names live here and are imported on first use (PEP 562), so `import crema_core` costs milliseconds: it
imports neither torch nor any plugin. `crema_core.list_modalities()` and `crema_core.describe(name)` import no torch
either.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crema_core.api.build import build
    from crema_core.api.load import load
    from crema_core.api.model import CremaModel
    from crema_core.evaluation.run import evaluate
    from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
    from crema_core.plugins import registry
    from crema_core.plugins.registry import describe, list_modalities
    from crema_core.plugins.spec import API_VERSION, ModalityOptions, ModalitySpec
    from crema_core.train.fit import fit

__version__ = "0.1.0"

__all__ = [
    "build",
    "load",
    "fit",
    "evaluate",
    "CremaModel",
    "list_modalities",
    "describe",
    "registry",
    "Modality",
    "ModalitySpec",
    "ModalityOptions",
    "Sample",
    "Batch",
    "Features",
    "BuildContext",
    "API_VERSION",
    "__version__",
]

_HOMES = {
    "build": "crema_core.api.build",
    "load": "crema_core.api.load",
    "fit": "crema_core.train.fit",
    "evaluate": "crema_core.evaluation.run",
    "CremaModel": "crema_core.api.model",
    "list_modalities": "crema_core.plugins.registry",
    "describe": "crema_core.plugins.registry",
    "Modality": "crema_core.modality",
    "ModalitySpec": "crema_core.plugins.spec",
    "ModalityOptions": "crema_core.plugins.spec",
    "Sample": "crema_core.modality",
    "Batch": "crema_core.modality",
    "Features": "crema_core.modality",
    "BuildContext": "crema_core.modality",
    "API_VERSION": "crema_core.plugins.spec",
}


def __getattr__(name: str) -> Any:
    if name == "registry":
        value: Any = importlib.import_module("crema_core.plugins.registry")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        from crema_core.errors import did_you_mean

        raise AttributeError(
            f"'{name}' is not a public name of crema_core. Public: {', '.join(__all__)}.{did_you_mean(name, __all__)}"
        )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
