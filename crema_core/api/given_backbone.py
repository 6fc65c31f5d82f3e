"""What does not go with a backbone that is an object already, refused before anything is built around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crema_core.errors import BuildError
from crema_core.model.backbone import ALONE, Backbone


def check_given(
    backbone: str | Path | Backbone, names: Sequence[str], *, language_model: str | Path | None, image_size: int | None
) -> None:
    """Refuse settings that loading would have taken, and an object that carries another model's adapters.

    Args:
        backbone: folder, hub id, or one already loaded.
        names: of the senses to build.
        language_model: asked for in the seat of the backbone's own, or None.
        image_size: asked for, or None.

    Raises:
        BuildError: with what to type instead.
    """
    if image_size is not None and (isinstance(backbone, Backbone) or backbone == ALONE):
        problem = (
            f"image_size={image_size} needs a backbone that is loaded here and sees pictures. Accepted with it: a "
            "folder or hub id of a Qwen-VL model as backbone. Pass load_backbone(..., image_size=...), or leave it out."
        )
    elif not isinstance(backbone, Backbone):
        return
    elif language_model is not None:
        problem = (
            f"language_model='{language_model}' comes with a backbone object, which has its language model already. "
            "Accepted: a folder or hub id as backbone. Pass load_backbone(..., language_model=...) instead."
        )
    elif existing := [name for name in names if backbone.qformer and backbone.qformer.lora_parameters(name)]:
        problem = (
            f"This backbone object already carries adapters for: {', '.join(existing)}. A backbone object serves one "
            "model. Pass a folder or hub id, or load_backbone(...) again."
        )
    else:
        return
    raise BuildError([problem])
