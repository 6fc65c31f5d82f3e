"""A whole model as a folder: everything trained, nothing frozen.

```
my-model/
  crema.json           how to build it again: backbone, language model and their identities, fusion, major sense, senses
                       with their packages; under "parts" the packages of fusion, backbone family and encoders
  fusion.safetensors   the fusion's shared weights
  language.safetensors what was trained of the language model; only where it was
  <sense>/             one adapter folder per sense, see `crema_core.saving.adapters`
  complete             written last
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crema_core.common.atomic import MARKER, new_folder
from crema_core.common.tensors import checksum, read_tensors, write_tensors
from crema_core.saving.adapters import TENSORS, read_description, write_adapter
from crema_core.saving.described import read_described
from crema_core.saving.parts import with_parts

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork

FORMAT = 1
MANIFEST, FUSION, LANGUAGE = "crema.json", "fusion.safetensors", "language.safetensors"


def save(model: CremaNetwork, folder: str | Path) -> None:
    """Save a model; the backbone is named, not copied.

    Raises:
        CheckpointError: when the folder holds something this package did not write.
    """
    with new_folder(Path(folder)) as place:
        shared = model.fusion.shared_parameters()
        write_tensors(place / FUSION, shared)
        tuned = model.language_parameters()
        if tuned:
            write_tensors(place / LANGUAGE, tuned)
        for name in model.names:
            (place / name).mkdir()
            write_adapter(model, name, place / name)
            (place / name / MARKER).write_text("written completely\n")
        manifest = {
            "format": FORMAT,
            **with_parts(model),
            "identity": model.backbone.identity(),
            "language_identity": model.backbone.language_identity(),
            "fusion_sha256": checksum(place / FUSION),
            **({"language_sha256": checksum(place / LANGUAGE)} if tuned else {}),
        }
        (place / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def read_manifest(place: Path) -> dict[str, Any]:
    """Read `crema.json`.

    Raises:
        CheckpointError: when the folder is incomplete or of another format.
    """
    return read_described(place, MANIFEST, what="model", writer="save_pretrained", accepted=FORMAT)


def read_state(place: Path, manifest: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Read everything trained, keyed as `CremaNetwork.trainable_parameters`.

    Raises:
        CheckpointError: when a file is absent, damaged or replaced.
    """
    shared = read_tensors(place / FUSION, sha256=manifest["fusion_sha256"])
    state = {f"fusion.{key}": value for key, value in shared.items()}
    if "language_sha256" in manifest:
        tuned = read_tensors(place / LANGUAGE, sha256=manifest["language_sha256"])
        state |= {f"language.{key}": value for key, value in tuned.items()}
    for entry in manifest["modalities"]:
        own = place / entry["name"]
        for key, value in read_tensors(own / TENSORS, sha256=read_description(own)["sha256"]).items():
            state[key if key.startswith("fusion.") else f"modalities.{entry['name']}.{key}"] = value
    return state
