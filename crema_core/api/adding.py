"""Add a modality to a model that is built or trained, new or shared; nothing of the other modalities changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

from torch import nn

from crema_core.api.assembly import common_queries, make_sense, query_counts, seeded
from crema_core.api.requests import ModalityRequest, check_encoders, resolve_requests
from crema_core.common.tensors import check_state, copy_state, read_tensors
from crema_core.errors import BuildError
from crema_core.fusion import Fusion, fusion_class, plan_fusion
from crema_core.model.network import CremaNetwork, Sense
from crema_core.plugins.hooks import load_hooks
from crema_core.saving.adapters import TENSORS, adapter_tensors, check_fits, read_description, wanted


def add_modality(
    model: CremaNetwork, modality: ModalityRequest, *, check: Callable[[dict[str, nn.Parameter]], None] | None = None
) -> None:
    """Add a sense to a built or trained model; nothing of the other senses changes.

    The new fusion block starts at zero, so answers given without the new sense stay bit-identical.

    Args:
        model: the model.
        modality: as in `build`.
        check: is given the parameters the sense would have, keyed as in an adapter file; what it raises goes on to the
            caller, and nothing is changed then.

    Raises:
        BuildError: when the sense is already there or cannot be built; nothing is changed then.
    """
    fusion = model.config["fusion"]["name"]
    request = resolve_requests([modality], {}, extended=fusion_class(fusion).extended)[0]
    name, queries = request.spec.name, model.backbone.query_tokens
    if name in model.modalities:
        raise BuildError(
            [f"The model already has a sense '{name}'. Each sense is built once. Train it, or build a new model."]
        )
    if queries is not None:  # refused before anything is changed
        counts = query_counts({own: model.sense(own) for own in model.names}, model.major)
        count = request.mmqa.num_queries or int(queries.shape[1])
        common_queries(counts | {name: count}, fusion, type(model.fusion))
    check_encoders(request, fusion=fusion, mixed=False)
    connector = plan_fusion(model.config["fusion"]).support_connector
    sense = make_sense(request, model.backbone, model.config["seed"], connector=connector, fusion=fusion, mixed=False)
    if check is not None:
        tried = copy.deepcopy(model.fusion)  # adapters and fusions are small, and a block cannot be taken out again
        _add_support(tried, name, sense, model.config["seed"])
        blocks = {f"fusion.{key}": parameter for key, parameter in tried.block_parameters([name]).items()}
        check(sense.adapter.trained() | blocks)
    load_hooks().call("crema_modality_built", modality=sense.modality, spec=sense.spec)
    _add_support(model.fusion, name, sense, model.config["seed"])
    model.modalities[name] = sense.to(model.device)
    model.config["modalities"].append(request.record())
    model.to(model.device)
    model.train(model.training)


def load_adapter(model: CremaNetwork, folder: str | Path) -> None:
    """Load a shared sense into a model, adding the sense when the model lacks it.

    The fusion block comes along when both models use the same fusion.

    Raises:
        CheckpointError: for another backbone, a damaged file or other sizes; nothing is changed.
        BuildError: when the sense's package is not installed; nothing is changed.
    """
    place = Path(folder)
    description = read_description(place)
    name = description["name"]
    check_fits(model, description)
    state = read_tensors(place / TENSORS, sha256=description["sha256"])
    if description["fusion"] != model.config["fusion"]["name"] or name == model.major:
        state = {key: value for key, value in state.items() if not key.startswith("fusion.")}
    if name not in model.modalities:
        kept = {key: description[key] for key in ("name", "mmqa", "prefix")}
        asked = {**kept, **description["options"]}
        add_modality(model, asked, check=lambda own: check_state(wanted(own, state), state))
    copy_state(wanted(adapter_tensors(model, name), state), state)


def _add_support(fusion: Fusion, name: str, sense: Sense, seed: int) -> None:
    with seeded(seed, f"fusion.{name}"):
        fusion.add_support(name, total=len(fusion.supports) + 1, zero=True, token_width=sense.adapter.width)
