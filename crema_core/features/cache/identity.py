"""What features depend on besides the file: when any of it changes, they are encoded anew.

Taken together it names the folder of one encoder's features. The code that prepares and encodes is part of it, not only
the package's version, so that an author who edits a sense never trains on the features of yesterday's code.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import torch

import crema_core.modality
from crema_core.data import media
from crema_core.errors import CacheError
from crema_core.features.cache.layout import FORMAT
from crema_core.modality import Modality
from crema_core.model.fingerprint import fingerprint
from crema_core.model.network import CremaNetwork
from crema_core.model.precision import computed_in


def encoder_identity(model: CremaNetwork, name: str, *, kept: torch.dtype | None) -> dict[str, Any]:
    """Return all that the features of one sense depend on, as JSON data.

    Args:
        model: a built model, on the device and in the number format its encoders run in now.
        name: the sense.
        kept: number format in which features are kept; None: as encoded.

    Raises:
        CacheError: when the sense's code cannot be read.
    """
    sense = model.sense(name)
    backbone = model.backbone
    vision = backbone.vision_model if sense.spec.encoder == "vision" else None
    return {
        "format": FORMAT,
        "sense": name,
        "class": sense.spec.factory,
        "distribution": sense.provenance.distribution,
        "version": sense.provenance.version,
        "api_version": sense.provenance.api_version,
        "options": sense.modality.options.model_dump(mode="json"),
        "images": [backbone.image_size, *backbone.image_mean, *backbone.image_std],
        "code": code_digest(type(sense.modality)),
        "weights": _weights(sense.modality),
        "vision": None if vision is None else fingerprint(vision),
        "computed_in": computed_in(model.device),
        "kept_in": "as encoded" if kept is None else str(kept).removeprefix("torch."),
    }


def folder_name(identity: dict[str, Any]) -> str:
    """Return the name of the folder of these features."""
    text = json.dumps(identity, sort_keys=True)
    return f"{identity['sense']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def code_digest(factory: type[Modality]) -> str:
    """Return a sha256 of the source code of a modality's package, of its bases' and of core's media readers.

    Raises:
        CacheError: for a class whose source code cannot be found.
    """
    files = {Path(inspect.getfile(crema_core.modality))}
    for owner in factory.__mro__:
        if owner is Modality:
            break
        files |= _package_files(owner)
    readers = {getattr(getattr(media, name), "__module__", "") for name in media.__all__}
    files |= {Path(inspect.getfile(sys.modules[name])) for name in readers if name.startswith("crema_core.data.")}
    lines = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _package_files(owner: type) -> set[Path]:
    """Return the files of the distribution a class comes from; of core, those of its room alone."""
    try:
        file = Path(inspect.getfile(owner))
    except (OSError, TypeError) as error:
        raise CacheError(
            f"The code of '{owner.__name__}' cannot be found, so nobody can tell later whether kept features are still "
            "its own. A sense kept on disk is defined in a file. Move the class into a module, or pass cache='memory'."
        ) from error
    parts = owner.__module__.split(".")
    if len(parts) == 1 and file.name != "__init__.py":
        return {file}
    levels = 0 if parts[0] == "crema_core" else len(parts) - (1 if file.name == "__init__.py" else 2)
    return set(file.parents[levels].rglob("*.py"))


def _weights(modality: Modality) -> str:
    """Return a sha256 of the encoder's own weights and buffers, also of those that checkpoints leave out."""
    digest = hashlib.sha256(fingerprint(modality).encode())
    saved = modality.state_dict()
    for name, buffer in sorted(modality.named_buffers()):
        if name not in saved:
            digest.update(f"{name}:{tuple(buffer.shape)}:{buffer.dtype}".encode())
            digest.update(buffer.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
