"""The preprocessing a checkpoint came with."""

from __future__ import annotations

from typing import Any

from transformers import AutoImageProcessor

from crema_core.model.pretrained import read_processor


def load_processor(source: str, *, revision: str | None) -> Any:
    """Return the image processor of a checkpoint.

    Raises:
        AssetError: when it has none.
    """
    needed = "An expert needs the preprocessing it was trained with."
    return read_processor(AutoImageProcessor, source, revision=revision, needed=needed)
