"""Add a modality to a model that is built or trained, new or shared; nothing of the other modalities changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from crema_core.api.assembly import common_queries, make_branch, query_counts, seeded
from crema_core.api.requests import ModalityRequest, check_encoders, resolve_requests
from crema_core.api.saved import is_missing, saved_request, saved_with
from crema_core.common.tensors import check_state, copy_state, read_tensors, require_finite
from crema_core.errors import BuildError, OptionsError, PluginError
from crema_core.fusion import fusion_class, plan_fusion
from crema_core.fusion.base import Fusion
from crema_core.model.mmqa import MMQA
from crema_core.model.network import CremaNetwork, ModalityBranch
from crema_core.model.revisions import REVISIONS, pinned, recording
from crema_core.plugins.hooks import load_hooks
from crema_core.saving.adapters import (
    TENSORS,
    adapter_tensors,
    check_fits,
    read_description,
    wanted,
    warn_of_processing,
)
from crema_core.saving.upgrades import FEATURES, SavedModality, compare_features, require_widths


def add_modality(
    model: CremaNetwork,
    modality: ModalityRequest,
    *,
    check: Callable[[ModalityBranch, dict[str, nn.Parameter]], None] | None = None,
) -> None:
    """Add a modality to a built or trained model; nothing of the other modalities changes.

    The new fusion block starts at zero, so answers given without the new modality stay bit-identical.

    Args:
        model: the model.
        modality: as in `build`.
        check: is given the modality and the parameters it would have, keyed as in an adapter file; what it raises
            continues to the caller, and nothing is changed then.

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
    if model.left_out is not None and (name in model.left_out.modalities or model.left_out.fusion):
        raise BuildError(
            [
                f"The model was opened without {', '.join(model.left_out.modalities)}, and a new '{name}' would take "
                f"the place of what is kept of "
                f"{'this modality' if name in model.left_out.modalities else 'the fusion with them'}. Accepted: the "
                "whole model. Install the packages and load it again, or build a new one. Nothing was changed."
            ]
        )
    if queries is not None:  # refused before anything is changed
        counts = query_counts({own: model.branch(own) for own in model.names}, model.major)
        count = request.mmqa.num_queries or int(queries.shape[1])
        common_queries(counts | {name: count}, fusion, type(model.fusion))
    check_encoders(request, fusion=fusion, mixed=False)
    plan = plan_fusion(model.config["fusion"])
    with recording() as revisions:
        branch = make_branch(request, model.backbone, model.config["seed"], plan=plan, fusion=fusion)
    if check is not None:
        tried = copy.deepcopy(model.fusion)  # adapters and fusions are small, and a block cannot be taken out again
        _add_supporting(tried, name, branch, model.config["seed"])
        blocks = {f"fusion.{key}": parameter for key, parameter in tried.block_parameters([name]).items()}
        check(branch, branch.trained() | blocks)
    load_hooks().call("crema_modality_built", modality=branch.modality, spec=branch.spec)
    _add_supporting(model.fusion, name, branch, model.config["seed"])
    model.modalities[name] = branch.to(model.device)
    model.config["modalities"].append(request.record())
    if revisions:
        model.config[REVISIONS] = {**model.config.get(REVISIONS, {}), **revisions}
    model.to(model.device)
    model.train(model.training)


def load_adapter(
    model: CremaNetwork,
    folder: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    check_features: bool = True,
) -> None:
    """Load a shared modality into a model, adding the modality when the model lacks it.

    The fusion block comes along when both models use the same fusion.

    Args:
        model: the model.
        folder: the adapter.
        options: of a modality the model lacks, options that go before the saved ones, where an upgraded package calls
            them otherwise.
        check_features: compare the features of the modality's example with those the adapter was trained on, see
            `crema_core.load`.

    Raises:
        CheckpointError: for another backbone, a damaged file, other sizes, features of another width, and, with
            `CREMA_PLUGINS_STRICT=1`, other features; nothing is changed.
        BuildError: when the modality's package is not installed, naming it, or does not take the saved options; nothing
            is changed.
        OptionsError: for options of a modality the model has; nothing is changed.
    """
    place = Path(folder)
    description = read_description(place)
    name = description["name"]
    check_fits(model, description)
    state = read_tensors(place / TENSORS, sha256=description["sha256"])
    require_finite(state, place=place / TENSORS)
    if description["fusion"] != model.config["fusion"]["name"] or name == model.major:
        state = {key: value for key, value in state.items() if not key.startswith("fusion.")}

    def check(branch: ModalityBranch, own: dict[str, nn.Parameter]) -> None:
        modality = SavedModality(description, description.get(FEATURES), branch, state)
        require_widths(place, [modality])
        check_state(wanted(own, state), state)
        if check_features:
            compare_features(place, [modality], stacklevel=6 if name not in model.modalities else 5)

    if name in model.modalities:
        if options is not None:
            raise OptionsError(
                f"options came for '{name}', which the model has with options of its own. Accepted: options of a "
                "modality that is added. Leave options out, or build the model with them. Nothing was changed."
            )
        check(model.branch(name), adapter_tensors(model, name))
    else:
        with pinned({**model.config.get(REVISIONS, {}), **description.get(REVISIONS, {})}):
            add_modality(model, _asked(model, place, description, options), check=check)
    copy_state(wanted(adapter_tensors(model, name), state), state)
    warn_of_processing(model, place, description)


def _asked(
    model: CremaNetwork, place: Path, description: Mapping[str, Any], options: Mapping[str, Any] | None
) -> dict[str, Any]:
    extended = fusion_class(model.config["fusion"]["name"]).extended
    remedy = "load_adapter(..., options={...})"
    try:
        return saved_request(place, description, changes=options, extended=extended, remedy=remedy)
    except PluginError as error:
        missing = saved_with(place, [description], missing=[description["name"]]) if is_missing(error) else []
        raise BuildError([error, *missing]) from error
    except OptionsError as error:
        raise BuildError([error]) from error


def _add_supporting(fusion: Fusion, name: str, branch: ModalityBranch, seed: int) -> None:
    # Tokens that are zeros change nothing by themselves; with a block of zeros behind them no gradient would pass.
    zeros, first = isinstance(branch.adapter, MMQA) and branch.adapter.is_zero, not fusion.supporting
    width, total = branch.adapter.width, len(fusion.supporting) + 1
    with seeded(seed, f"fusion.{name}"):
        fusion.add_supporting(name, total=total, zero=not zeros, token_width=width)
    if zeros and first:
        fusion.zero_shared()
