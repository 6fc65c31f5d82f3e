"""What lmms-eval's entry-point group names: a light module that states where the adapter is."""

from __future__ import annotations

from typing import Any


def model_manifest() -> Any:
    """Return the manifest under which lmms-eval knows saved models: `--model crema`.

    Called by lmms-eval itself, so it is installed.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="crema", simple_class_path="crema_benchmarks.lmms_eval_model.CremaLmms")
