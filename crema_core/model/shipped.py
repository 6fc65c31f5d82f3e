"""The backbones shipped in the package, so that everything can be seen to work without a hub or a GPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from crema_core.errors import CheckpointError
from crema_core.model.backbone_family import NamedCheckpoint

WEIGHTS = Path(__file__).parents[1] / "weights"


def tiny_backbone_path(name: str = "crema-tiny") -> Path:
    """Return the folder of a checkpoint in the ordinary transformers format.

    Args:
        name: "crema-tiny", shaped as BLIP-2, or "crema-tiny-video", shaped as LLaVA-OneVision.

    Raises:
        CheckpointError: when the installed package does not have the weights.
    """
    folder = WEIGHTS / name
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"The tiny backbone is not in {folder}. It needs config.json, model.safetensors and the tokenizer there. "
            "Install it again: pip install --force-reinstall --no-deps crema-core"
        )
    return folder


CREMA_TINY = NamedCheckpoint("crema-tiny", partial(tiny_backbone_path, "crema-tiny"))
CREMA_TINY_VIDEO = NamedCheckpoint("crema-tiny-video", partial(tiny_backbone_path, "crema-tiny-video"))
