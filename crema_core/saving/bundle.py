"""A whole model as a folder: everything trained, nothing frozen.

```
my-model/
  crema.json           how to build it again: backbone, language model and their identities, fusion, major modality,
                       modalities with their packages; under "parts" the packages of fusion, backbone family and
                       encoders; under "processing" the processor of a vision-language model and what ran it
  fusion.safetensors   the fusion's shared weights
  language.safetensors what was trained of the language model; only where it was
  <modality>/             one adapter folder per modality, see `crema_core.saving.adapters`
  complete             written last
```
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crema_core.common.atomic import MARKER, new_folder
from crema_core.common.tensors import checksum, mismatches, read_tensors, require_finite, write_tensors
from crema_core.errors import CheckpointError
from crema_core.model.network import LeftOut, LeftOutModality
from crema_core.plugins import registry
from crema_core.plugins.groups import KINDS, KindName
from crema_core.saving.adapters import (
    TENSORS,
    as_saved,
    parts_of,
    processing_of,
    read_described,
    read_part,
    write_adapter,
    write_adapter_as_read,
)
from crema_core.saving.records import ModelRecord, check_names, check_record
from crema_core.saving.upgrades import compare_features

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork

FORMAT = 1
CONFIG, FUSION, LANGUAGE = "crema.json", "fusion.safetensors", "language.safetensors"
PARTS = "parts"
"""Key of a model's configuration: kind -> name, distribution and version; of encoders a list. Compared before the model
is built again, so that an absent package is named with what installs it; models saved without it load all the same."""


def save(model: CremaNetwork, folder: str | Path) -> None:
    """Save a model; the backbone is named, not copied.

    Raises:
        CheckpointError: when the folder holds something this package did not write, or a weight is not finite.
    """
    require_finite(model.trainable_parameters(), place=folder)
    with new_folder(Path(folder)) as place:
        left_out = model.left_out or LeftOut({}, {}, [])
        shared: dict[str, torch.Tensor] = {**model.fusion.shared_parameters()}
        write_tensors(
            place / FUSION,
            shared or {key.removeprefix("fusion."): value for key, value in left_out.fusion.items()},
        )
        tuned = model.language_parameters()
        if tuned:
            write_tensors(place / LANGUAGE, tuned)
        for name in model.names:
            (place / name).mkdir()
            write_adapter(model, name, place / name)
            (place / name / MARKER).write_text("written completely\n")
        for name, own in left_out.modalities.items():
            (place / name).mkdir()
            write_adapter_as_read(place / name, own.description, own.tensors)
            (place / name / MARKER).write_text("written completely\n")
        config = {
            "format": FORMAT,
            **with_parts(model),
            "modalities": left_out.among(model.config["modalities"]),
            **processing_of(model),
            "identity": model.backbone.identity(),
            "language_identity": model.backbone.language_identity(),
            "fusion_sha256": checksum(place / FUSION),
            **({"language_sha256": checksum(place / LANGUAGE)} if tuned else {}),
        }
        (place / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def read_model_config(place: Path) -> dict[str, Any]:
    """Read `crema.json`, see `read_described`.

    Raises:
        CheckpointError: also when it holds something else than `save_pretrained` writes, or names what is not in the
            folder.
    """
    found = read_described(place, CONFIG, what="model", writer="save_pretrained", accepted=FORMAT)
    check_record(place / CONFIG, found, ModelRecord, writer="save_pretrained")
    check_names(place, found)
    return found


def read_state(place: Path, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Read everything trained, keyed as `CremaNetwork.trainable_parameters`.

    Raises:
        CheckpointError: when a file is absent, damaged or replaced.
    """
    shared = read_tensors(place / FUSION, sha256=config["fusion_sha256"])
    state = {f"fusion.{key}": value for key, value in shared.items()}
    if "language_sha256" in config:
        tuned = read_tensors(place / LANGUAGE, sha256=config["language_sha256"])
        state |= {f"language.{key}": value for key, value in tuned.items()}
    for entry in config["modalities"]:
        own = place / entry["name"]
        for key, value in read_tensors(own / TENSORS, sha256=read_part(place, entry["name"])["sha256"]).items():
            state[key if key.startswith("fusion.") else f"modalities.{entry['name']}.{key}"] = value
    require_finite(state, place=place)
    return state


@torch.no_grad()
def init_from(model: CremaNetwork, folder: str | Path) -> list[str]:
    """Begin where a saved model ended, for the next stage of a recipe or further modalities; the rest stays as built.

    Args:
        model: built on the same backbone and language model; it may have more modalities, and train more of the
            language model than the saved one.
        folder: a saved model.

    Returns:
        Names of the parameters that were set.

    Raises:
        CheckpointError: for an incomplete folder, another backbone or language model, and weights that have no place
            here; nothing is changed then.
    """
    place = Path(folder)
    config = read_model_config(place)
    ours = {"identity": model.backbone.identity(), "language_identity": model.backbone.language_identity()}
    for key, what in (("identity", "backbone"), ("language_identity", "language model")):
        if config.get(key) != ours[key]:
            raise CheckpointError(
                f"'{place}' was trained with another {what} than this model has. A training starts from one with the "
                f"same. Build the model with the {what} of that one. Nothing was changed."
            )
    state, parameters = read_state(place, config), model.trainable_parameters()
    problems = mismatches({key: value for key, value in parameters.items() if key in state}, state)
    problems += _other_encoders(model, config)
    if problems:
        raise CheckpointError(
            f"This model cannot start from '{place}', {len(problems)} things differ:\n  "
            + "\n  ".join(problems)
            + "\nWhat was trained must have its place. Build the model with the same modalities, sizes, encoders and "
            "fusion. Nothing was changed."
        )
    entries = [entry for entry in config["modalities"] if entry["name"] in model.names]
    of_each = {
        entry["name"]: {key.removeprefix(f"modalities.{entry['name']}."): value for key, value in state.items()}
        for entry in entries
    }
    descriptions = [read_part(place, name) for name in of_each]
    compare_features(place, [as_saved(model, own, of_each[own["name"]]) for own in descriptions])
    for key, value in state.items():
        parameters[key].copy_(value)
    return list(state)


def _other_encoders(model: CremaNetwork, config: Mapping[str, Any]) -> list[str]:
    """Return a line for every modality whose several encoders are others: equal shapes would hide it."""
    own = {entry["name"]: parts_of(model, entry) for entry in model.config["modalities"]}
    saved = {entry["name"]: parts_of(model, entry) for entry in config["modalities"] if entry["name"] in own}
    return [
        f"encoders of {name}: {' + '.join(saved[name])}, the model's are {' + '.join(own[name])}"
        for name in saved
        if saved[name] != own[name]
    ]


def with_parts(model: CremaNetwork) -> dict[str, Any]:
    """Return the configuration of a model with all its parts, as it is saved."""
    running = {type(module) for name in model.names for module in model.branch(name).modality.modules()}
    names = {getattr(kind, "name", "") for kind in running}
    encoders = [
        found.provenance()
        for found in registry.providers("encoder")
        if found.name in names and found.refusal is None and found.load() in running
    ]
    encoders += [] if model.left_out is None else model.left_out.encoders
    parts = {**model.config.get(PARTS, {}), **({"encoders": encoders} if encoders else {})}
    return {**model.config, PARTS: parts}


def left_out_of(place: Path, config: Mapping[str, Any], names: Collection[str]) -> LeftOut | None:
    """Read what is kept of the modalities that a saved model is opened without; None where it is opened whole.

    Raises:
        CheckpointError: when a file is absent or damaged, or another modality needs the Q-Former of one of these.
    """
    if not names:
        return None
    modalities, kept = {}, [entry["name"] for entry in config["modalities"] if entry["name"] not in names]
    for position, entry in enumerate(config["modalities"]):
        if entry["name"] not in names:
            continue
        own = place / entry["name"]
        description = read_part(place, entry["name"])
        read = read_tensors(own / TENSORS, sha256=description["sha256"])
        require_finite(read, place=own / TENSORS)
        tensors = {key: value.clone() for key, value in read.items()}  # the file may be replaced by the next save
        modalities[entry["name"]] = LeftOutModality(position, entry, description, tensors)
        needed = [name for name in kept if "qformer" in read_part(place, name)]
        if description.get("qformer", {}).get("brought") and needed:
            raise CheckpointError(
                f"'{place}' cannot be opened without '{entry['name']}': the Q-Former that {', '.join(needed)} pass was "
                f"trained with it. Accepted: without any of them. Install {entry['distribution'] or 'its spec'}, or "
                f"pass without={[entry['name'], *needed]!r}. Nothing was changed."
            )
    return LeftOut(modalities, {}, _encoders_of_others(config, names))


def _encoders_of_others(config: Mapping[str, Any], names: Collection[str]) -> list[dict[str, str]]:
    """Return the encoders of a model that options of the modalities `names` name, and those of no other modality."""
    own = [entry["options"] for entry in config["modalities"] if entry["name"] in names]
    others = [entry["options"] for entry in config["modalities"] if entry["name"] not in names]
    return [
        part
        for part in (config.get(PARTS) or {}).get("encoders", ())
        if _mentions(own, part["name"]) and not _mentions(others, part["name"])
    ]


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, Mapping):
        return any(_mentions(own, name) for own in value.values())
    if isinstance(value, list | tuple):
        return any(_mentions(own, name) for own in value)
    return bool(value == name)


def missing_parts(place: Path, config: Mapping[str, Any], *, without: Collection[str] = ()) -> list[str]:
    """Look for the packages of all parts of a saved model, before anything is built.

    Args:
        place: the folder.
        config: its configuration.
        without: modalities that are not built, whose encoders are not needed.

    Returns:
        A message for every part that is not there, with what installs its package.
    """
    problems = []
    parts = config.get(PARTS) or {}
    kinds: tuple[KindName, ...] = ("fusion", "backbone")
    wanted: list[tuple[KindName, Mapping[str, str]]] = [(kind, parts[kind]) for kind in kinds if parts.get(kind)]
    unused = _encoders_of_others(config, without)
    wanted += [("encoder", part) for part in parts.get("encoders", ()) if part not in unused]
    for kind, part in wanted:
        if part["name"] in registry.installed_names(kind):
            continue
        noun = KINDS[kind].noun
        if (
            part["distribution"]
            and _is_installed(part["distribution"])
            and _package_of(kind, part) == part["distribution"]
        ):
            problems.append(
                f"'{place}' needs the {noun} '{part['name']}' of {part['distribution']} {part['version']}, and the "
                f"{part['distribution']} that is installed has none of this name: what it computed, nothing here does. "
                f"Install {part['distribution']} as it was then to use this model, or build and train it anew."
            )
        elif part["distribution"]:
            problems.append(
                f"'{place}' needs the {noun} '{part['name']}' of {part['distribution']} {part['version']}, which is "
                f"not installed. Run: pip install {_package_of(kind, part)}"
            )
        else:
            problems.append(
                f"'{place}' needs the {noun} '{part['name']}', which was registered by hand. Register it again first: "
                f"crema_core.registry.register(..., kind='{kind}', name='{part['name']}')"
            )
    return problems


def _is_installed(distribution: str) -> bool:
    """Return whether anything of a package is installed."""
    return any(found.distribution == distribution for kind in KINDS for found in registry.providers(kind))


def _package_of(kind: KindName, part: Mapping[str, str]) -> str:
    """Return what to install: the package that the part came from, or the one that it moved to out of core since."""
    moved = registry.known_packages(kind).get(part["name"]) if part["distribution"] == "crema-core" else None
    return moved or part["distribution"]


def fusion_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved fusion as `build` takes it: where several packages provide its name, the one that wrote it."""
    fusion, part = dict(config["fusion"]), config.get(PARTS, {}).get("fusion")
    rivals = [found for found in registry.providers("fusion") if part and found.name == part["name"]]
    if part and part["distribution"] and len(rivals) > 1:
        fusion["name"] = f"{part['distribution']}:{part['name']}"
    return fusion
