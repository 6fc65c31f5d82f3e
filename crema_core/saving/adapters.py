"""One folder per modality, to share and to move between models with the same backbone.

```
my-adapter/
  adapter.json         what it is, which package provides the modality, which backbone it was trained on; under
                       "features" a fingerprint of what the modality makes of its example
  adapter.safetensors  mmqa.*, lora.*, of a trainable encoder encoder.*, and fusion.* where the fusion keeps a block per
                       modality
  complete             written last
```
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from crema_core.common.atomic import new_folder, require_complete
from crema_core.common.reading import inside, read_object, shown
from crema_core.common.tensors import checksum, require_finite, write_tensors
from crema_core.errors import CheckpointError, ModalityWarning, ProcessingWarning, ReadError, first_line
from crema_core.fusion import plan_fusion
from crema_core.model.revisions import REVISIONS
from crema_core.saving.fingerprint import feature_fingerprint
from crema_core.saving.records import AdapterRecord, check_record
from crema_core.saving.upgrades import FEATURES, SavedModality

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork

FORMAT = 1
DESCRIPTION, TENSORS = "adapter.json", "adapter.safetensors"
PROCESSING = "processing"
INDIVIDUAL = "individual_qformer"
"""Key of an adapter of a model whose modalities have Q-Formers of their own."""


def save_adapter(model: CremaNetwork, name: str, folder: str | Path) -> None:
    """Save one modality into a new folder, or in place of an earlier save.

    Raises:
        UnknownModalityError: when the model has no such modality.
        CheckpointError: when the folder holds something else, or a weight is not finite.
    """
    model.branch(name)
    require_finite(adapter_tensors(model, name), place=folder)
    with new_folder(Path(folder)) as place:
        write_adapter(model, name, place)


def write_adapter(model: CremaNetwork, name: str, place: Path) -> None:
    """Write the files of one adapter into an existing folder."""
    write_tensors(place / TENSORS, adapter_tensors(model, name))
    record = next(entry for entry in model.config["modalities"] if entry["name"] == name)
    branch = model.branch(name)
    features = branch.trained_features or feature_fingerprint(branch.modality)
    if "failed" in features:
        warnings.warn(
            f"The features of '{name}' are saved without a fingerprint, so nobody will notice when an upgrade of its "
            f"package changes them: its example fails with {features['failed']}. The adapter itself is saved. Tell the "
            f"authors; see: crema plugins check {name}",
            ModalityWarning,
            stacklevel=4,
        )
    description = {
        "format": FORMAT,
        **record,
        FEATURES: features,
        "fusion": model.config["fusion"]["name"],
        "has_fusion_block": bool(model.fusion_parameters([name])),
        "language_dim": model.backbone.language_dim,
        "backbone": {**model.config["backbone"], "identity": model.backbone.identity()},
        "language_model": _language(model),
        **_new_qformer(model, name),
        **({INDIVIDUAL: True} if _has_individual(model) else {}),
        **processing_of(model),
        **({REVISIONS: commits} if (commits := model.config.get(REVISIONS)) else {}),
        "sha256": checksum(place / TENSORS),
    }
    (place / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def write_adapter_as_read(place: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write an adapter whose modality is not built, as it was read, into an existing folder."""
    write_tensors(place / TENSORS, tensors)
    text = json.dumps({**description, "sha256": checksum(place / TENSORS)}, indent=2)
    (place / DESCRIPTION).write_text(text + "\n")


def read_description(place: Path) -> dict[str, Any]:
    """Read `adapter.json`, see `read_described`.

    Raises:
        CheckpointError: also when it holds something else than `save_adapter` writes.
    """
    found = read_described(place, DESCRIPTION, what="adapter", writer="save_adapter", accepted=FORMAT)
    check_record(place / DESCRIPTION, found, AdapterRecord, writer="save_adapter")
    return found


def read_part(place: Path, name: str) -> dict[str, Any]:
    """Read the `adapter.json` of a modality of the saved model in the folder `place`.

    Raises:
        CheckpointError: as `read_description`, and when it is of another modality.
    """
    found = read_description(inside(place, name, what="the folder of a modality"))
    if found["name"] != name:
        raise CheckpointError(
            f"{shown(place / name / DESCRIPTION)} describes '{found['name']}', and the model has '{name}' there. Copy "
            "the folder again. Nothing was changed."
        )
    return found


def as_saved(
    model: CremaNetwork, description: Mapping[str, Any], weights: Mapping[str, Tensor] | None = None
) -> SavedModality:
    """Return a modality of the model beside what `adapter.json`, as `read_description` returns it, records of it.

    Args:
        model: has the modality.
        description: of the adapter.
        weights: what the adapter holds, keyed as there, where the model does not have it yet.
    """
    return SavedModality(description, description.get(FEATURES), model.branch(description["name"]), weights or {})


def parts_of(model: CremaNetwork, entry: Mapping[str, Any]) -> list[str]:
    """Return what the weights of a modality stand for one by one (`Connector.parts`), by its entry in a config."""
    return list(model.branch(entry["name"]).adapter.parts(entry["options"]))


def check_fits(model: CremaNetwork, description: Mapping[str, Any]) -> None:
    """Raise unless a shared adapter, described as `read_description` returns it, was trained for a model like this one.

    Raises:
        CheckpointError: for another backbone, another language model, other encoders, or a Q-Former of its own where
            this model's modalities share one.
    """
    name = description["name"]
    wide, own = description["language_dim"], model.backbone.language_dim
    if wide != own:
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it was trained for a language model {wide} wide, this one is {own} "
            f"wide. Build the model on {description['backbone']['source']!r}. Nothing was changed."
        )
    if description["backbone"]["identity"] != model.backbone.identity():
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it was trained on the backbone "
            f"{description['backbone']['source']!r}, this model's backbone has other weights. An adapter fits the "
            f"backbone it was trained on. Build the model on {description['backbone']['source']!r}. Nothing was "
            "changed."
        )
    trained, own_override = description.get("language_model"), _language(model)
    if (trained and trained["identity"]) != (own_override and own_override["identity"]):
        places = [
            f"{override['source']!r}" if override else "the backbone's own" for override in (trained, own_override)
        ]
        argument = f"language_model={places[0]}" if trained else "no language_model"
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it was trained for another language model ({places[0]}) than this "
            f"model's ({places[1]}). An adapter fits the language model it was trained for. Build the model with "
            f"{argument}. Nothing was changed."
        )
    entry = next((entry for entry in model.config["modalities"] if entry["name"] == name), None)
    own_parts = None if entry is None else parts_of(model, entry)
    if own_parts is not None and own_parts != (theirs := parts_of(model, description)):
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it was trained with the encoders {' + '.join(theirs)}, this model "
            f"has {' + '.join(own_parts)}. Number and order must agree. Build the model with these encoders. Nothing "
            "was changed."
        )
    if (theirs_own := bool(description.get(INDIVIDUAL))) != _has_individual(model):
        was, now = ("a Q-Former of its own", "share one") if theirs_own else ("a shared Q-Former", "have their own")
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it was trained with {was} (fusion '{description['fusion']}'), this "
            f"model's modalities {now} (fusion '{model.config['fusion']['name']}'). Build the model with "
            f"fusion='{description['fusion']}'. Nothing was changed."
        )
    if "qformer" in description:
        _check_qformer(model, name, description["qformer"])


def processing_of(model: CremaNetwork) -> dict[str, Any]:
    """Return what a saved folder says about the processor of its backbone, under `PROCESSING`; nothing without one."""
    own = model.backbone.processing()
    return {PROCESSING: own} if own else {}


def warn_of_processing(model: CremaNetwork, place: Path, saved: Mapping[str, Any]) -> None:
    """Say once what a folder was trained with that makes other inputs of the same media here, or may.

    Args:
        model: that the folder is loaded into.
        place: the folder.
        saved: its configuration; folders written before this was recorded say nothing.
    """
    was, now = saved.get(PROCESSING), model.backbone.processing()
    if was is None or was == now:
        return
    differs = []
    if was["class"] != now["class"]:
        differs.append(f"with the processor {was['class']}, and the backbone's is {now['class']}")
    elif was["settings"] != now["settings"]:
        differs.append(f"with other settings of the {was['class']} than the backbone's folder has now")
    if was["transformers"] != now["transformers"]:
        differs.append(f"with transformers {was['transformers']}, and {now['transformers']} is installed")
    warnings.warn(
        f"'{place}' was trained {'; and '.join(differs)}. Visual tokens and prompts may be others than those it was "
        "trained on. Evaluate it again, or go back to what it was trained with.",
        ProcessingWarning,
        stacklevel=3,
    )


def wanted(own: dict[str, nn.Parameter], state: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Leave the fusion block aside where the file's own does not come along."""
    if any(key.startswith("fusion.") for key in state):
        return own
    return {key: value for key, value in own.items() if not key.startswith("fusion.")}


def adapter_tensors(model: CremaNetwork, name: str) -> dict[str, nn.Parameter]:
    """Return what an adapter file of a modality holds, its fusion block included, keyed as there."""
    own = dict(model.adapter_parameters(name))
    return own | {f"fusion.{key}": parameter for key, parameter in model.fusion_parameters([name]).items()}


def _check_qformer(model: CremaNetwork, name: str, described: Mapping[str, Any]) -> None:
    """Raise unless an adapter that was trained with a new Q-Former finds it here, or brings it to a model without."""
    qformer, first = model.backbone.qformer, described["owner"]
    identity, owner = (None, None) if qformer is None else (qformer.identity(), qformer.owner)
    if described["brought"] and identity is not None and owner not in (None, name):
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it brings the new Q-Former it was trained with, and this model's "
            f"belongs to '{owner}'. A model has one. Load '{name}' into a model without '{owner}'. Nothing was changed."
        )
    if not described["brought"] and identity != described["identity"]:
        raise CheckpointError(
            f"Cannot load '{name}' into this model: it was trained with a new Q-Former that came with '{first}', and "
            f"this model has another. An adapter fits the Q-Former it was trained with. Load the adapter of '{first}' "
            "first. Nothing was changed."
        )


def _new_qformer(model: CremaNetwork, name: str) -> dict[str, Any]:
    """Return which new Q-Former an adapter was trained with, and whether it brings it; nothing of a frozen one."""
    qformer = model.backbone.qformer
    if qformer is None or not qformer.fresh or not model.branch(name).adapter.passes_qformer:
        return {}
    brought = qformer.owner == name
    return {"qformer": {"identity": qformer.identity(), "owner": qformer.owner, "brought": brought}}


def _has_individual(model: CremaNetwork) -> bool:
    return plan_fusion(model.config["fusion"]).individual_qformers


def _language(model: CremaNetwork) -> dict[str, Any] | None:
    """Return source and identity of the language model that replaces the backbone's own; None where none does."""
    source = model.config["language_model"]
    return None if source is None else {**source, "identity": model.backbone.language_identity()}


def read_described(place: Path, name: str, *, what: str, writer: str, accepted: int) -> dict[str, Any]:
    """Read the JSON file `name` that describes a saved folder; `what` it holds and its `writer` are for messages.

    Raises:
        CheckpointError: when the folder is incomplete or has another format than the one `accepted`.
    """
    require_complete(place, what=f"saved {what}")
    try:
        description = read_object(place / name)
        found = description["format"]
    except (ReadError, KeyError) as error:
        reason = first_line(error) if isinstance(error, ReadError) else "it states no format"
        raise CheckpointError(
            f"'{place / name}' cannot be read: {reason}. It must be the JSON file {writer} wrote. Copy the folder "
            "again. Nothing was changed."
        ) from error
    if found != accepted:
        raise CheckpointError(
            f"'{place}' has {what} format {found}. This version reads format {accepted}. Upgrade crema-core. Nothing "
            "was changed."
        )
    return description
