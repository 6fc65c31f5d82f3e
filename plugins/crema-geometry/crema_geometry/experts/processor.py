"""The preprocessing a checkpoint came with."""

from __future__ import annotations

from typing import Any

from transformers import AutoImageProcessor

from crema_core.errors import AssetError


def load_processor(source: str, *, revision: str | None) -> Any:
    """Return the image processor of a checkpoint.

    Raises:
        AssetError: when it has none.
    """
    try:
        return AutoImageProcessor.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise AssetError(
            f"'{source}' has weights but no preprocessor_config.json. An expert needs the preprocessing it was trained "
            "with. Download that file into the folder too."
        ) from error
