"""SenseWorld: a generated multi-sensory world, and the backbones trained on its text and its RGB.

With these nobody needs a hub, a data set or a GPU to see everything work. Importing this package imports neither
numpy nor torch; its functions import what they need when they are called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crema_core.world.errors import WorldError

if TYPE_CHECKING:
    from crema_core.world.generate import WorldSummary, make_world

__all__ = ["TINY_BACKBONES", "WorldError", "WorldSummary", "make_world", "tiny_backbone_path"]

TINY_BACKBONES = ("crema-tiny", "crema-tiny-video")
"""Names of the shipped checkpoints, shaped as BLIP-2 and as LLaVA-OneVision."""

_LAZY = frozenset({"WorldSummary", "make_world"})


def tiny_backbone_path(name: str = "crema-tiny") -> Path:
    """Return the folder of a checkpoint in the ordinary transformers format.

    Args:
        name: one of `TINY_BACKBONES`.

    Raises:
        WorldError: when the installed package does not have the weights.
    """
    folder = Path(__file__).parent / name
    if not (folder / "model.safetensors").is_file():
        script = "pretrain_video" if name == "crema-tiny-video" else "pretrain"
        raise WorldError(
            f"The tiny backbone is not in {folder}. It needs config.json, model.safetensors and the tokenizer there. "
            f"Install the package again, or train it: python -m crema_core.world.{script} --out {folder}"
        )
    return folder


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from crema_core.world import generate

        return getattr(generate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
