"""Add a modality to a model that is built or trained, new or shared; nothing of the other modalities changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

from torch import nn

from crema_core.api.assembly import common_queries, make_branch, query_counts, seeded
from crema_core.api.requests import ModalityRequest, check_encoders, resolve_requests
from crema_core.common.tensors import check_state, copy_state, read_tensors
from crema_core.errors import BuildError
from crema_core.fusion import fusion_class, plan_fusion
from crema_core.fusion.base import Fusion
from crema_core.model.mmqa import MMQA
from crema_core.model.network import CremaNetwork, ModalityBranch
from crema_core.plugins.hooks import load_hooks
from crema_core.saving.adapters import (
    TENSORS,
    adapter_tensors,
    check_fits,
    read_description,
    wanted,
    warn_of_processing,
)


def add_modality(
    model: CremaNetwork, modality: ModalityRequest, *, check: Callable[[dict[str, nn.Parameter]], None] | None = None
) -> None:
    """Add a modality to a built or trained model; nothing of the other modalities changes.

    The new fusion block starts at zero, so answers given without the new modality stay bit-identical.

    Args:
        model: the model.
        modality: as in `build`.
        check: is given the parameters the modality would have, keyed as in an adapter file; what it raises continues to
            the caller, and nothing is changed then.

    Raises:
        BuildError: when the modality is already there or cannot be built; nothing is changed then.
    """
    fusion = model.config["fusion"]["name"]
    request = resolve_requests([modality], {}, extended=fusion_class(fusion).extended)[0]
    name, queries = request.spec.name, model.backbone.query_tokens
    if name in model.modalities:
        raise BuildError(
            [f"The model already has a modality '{name}'. Each modality is built once. Train it, or build a new model."]
        )
    if queries is not None:  # refused before anything is changed
        counts = query_counts({own: model.branch(own) for own in model.names}, model.major)
        count = request.mmqa.num_queries or int(queries.shape[1])
        common_queries(counts | {name: count}, fusion, type(model.fusion))
    check_encoders(request, fusion=fusion, mixed=False)
    plan = plan_fusion(model.config["fusion"])
    branch = make_branch(request, model.backbone, model.config["seed"], plan=plan, fusion=fusion)
    if check is not None:
        tried = copy.deepcopy(model.fusion)  # adapters and fusions are small, and a block cannot be taken out again
        _add_supporting(tried, name, branch, model.config["seed"])
        blocks = {f"fusion.{key}": parameter for key, parameter in tried.block_parameters([name]).items()}
        check(branch.adapter.trained() | blocks)
    load_hooks().call("crema_modality_built", modality=branch.modality, spec=branch.spec)
    _add_supporting(model.fusion, name, branch, model.config["seed"])
    model.modalities[name] = branch.to(model.device)
    model.config["modalities"].append(request.record())
    model.to(model.device)
    model.train(model.training)


def load_adapter(model: CremaNetwork, folder: str | Path) -> None:
    """Load a shared modality into a model, adding the modality when the model lacks it.

    The fusion block comes along when both models use the same fusion.

    Raises:
        CheckpointError: for another backbone, a damaged file or other sizes; nothing is changed.
        BuildError: when the modality's package is not installed; nothing is changed.
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
    warn_of_processing(model, place, description)


def _add_supporting(fusion: Fusion, name: str, branch: ModalityBranch, seed: int) -> None:
    # Tokens that are zeros change nothing by themselves; with a block of zeros behind them no gradient would pass.
    zeros, first = isinstance(branch.adapter, MMQA) and branch.adapter.is_zero, not fusion.supporting
    width, total = branch.adapter.width, len(fusion.supporting) + 1
    with seeded(seed, f"fusion.{name}"):
        fusion.add_supporting(name, total=total, zero=not zeros, token_width=width)
    if zeros and first:
        fusion.zero_shared()
