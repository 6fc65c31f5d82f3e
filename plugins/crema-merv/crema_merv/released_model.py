"""A released MERV checkpoint into a built model: projectors and mixer, and the language model where it was trained.

The released code never saves encoders; they are named when the model is built, in the checkpoint's order.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crema_core.common.tensors import mismatches
from crema_core.errors import CheckpointError
from crema_core.model.tuning import FULL
from crema_merv.checkpoint import read_released_merv
from crema_merv.connector import EncodersConnector
from crema_merv.released import (
    ReleasedParts,
    describe_mixer,
    describe_projector,
    load_released,
)

if TYPE_CHECKING:
    from crema_core.api.model import CremaModel

# Rows of the vocabulary: the released code adds a padding token and fills up to a multiple of 64.
_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
_BUFFER = "rotary_emb.inv_freq"


def fusion_options(parts: ReleasedParts) -> dict[str, Any]:
    """Return the options of `fusion="merv"` a checkpoint was trained with, as far as its weights tell.

    Raises:
        CheckpointError: for weights no released projector has, and for encoders with projectors of several kinds.
    """
    described = [describe_projector(state) for state in parts.projectors]
    kinds = {(one.kind, one.map_kind, one.num_tokens, one.num_blocks) for one in described}
    if len(kinds) > 1:
        told = ", ".join(sorted(f"{kind} + {map_kind}" for kind, map_kind, _, _ in kinds))
        raise CheckpointError(
            f"The checkpoint has projectors of several kinds: {told}. A model has one kind for all of its encoders. "
            "Pass a checkpoint of the released code. Nothing was changed."
        )
    (kind, map_kind, num_tokens, num_blocks) = kinds.pop()
    options: dict[str, Any] = {"projector": kind, "map_kind": map_kind}
    if num_tokens is not None:
        options["token_grid"] = (math.isqrt(num_tokens),) * 2  # the released code has square ones only
    if num_blocks is not None:
        options["num_blocks"] = num_blocks
    without = "concat" if len(described) > 1 else "average"
    return options | {"mixer": describe_mixer(parts.fusion) or without}


def load_released_model(
    model: CremaModel, released: str | Path | ReleasedParts, *, with_language_model: bool = True
) -> list[str]:
    """Put a released checkpoint into a model built with `fusion="merv"` and its encoders in its order.

    Args:
        model: built with the options of `fusion_options`.
        released: a file of a released run, or what `read_released_merv` returned.
        with_language_model: also the language model's weights, where the checkpoint has them; False leaves them aside.

    Returns:
        Names of what was set: "projectors", "mixer", "language model".

    Raises:
        CheckpointError: telling what does not fit; nothing is changed then.
    """
    parts = released if isinstance(released, ReleasedParts) else read_released_merv(released)
    connector = model.branch(model.major).adapter
    if not isinstance(connector, EncodersConnector):
        raise CheckpointError(
            f"A released MERV checkpoint came for a model whose fusion is '{model.config['fusion']['name']}'. "
            "Accepted: a model with fusion='merv'. Build one with the checkpoint's encoders. Nothing was changed."
        )
    language = _language_state(model, parts) if parts.language_model and with_language_model else {}
    load_released(connector.merv, parts)
    with torch.no_grad():
        for key, parameter in model.language_parameters().items() if language else ():
            parameter.copy_(language[key])
    return ["projectors", *(["mixer"] if parts.fusion else []), *(["language model"] if language else [])]


def _language_state(model: CremaModel, parts: ReleasedParts) -> dict[str, Tensor]:
    if model.backbone.tuning != FULL:
        raise CheckpointError(
            "The checkpoint holds a trained language model, and this model's is frozen, so it would be lost on saving. "
            "Accepted: a model whose language model may be trained. Build it with tuning='full', or pass "
            "with_language_model=False. Nothing was changed."
        )
    wanted = model.language_parameters()
    found = {key: value for key, value in parts.language_model.items() if not key.endswith(_BUFFER)}
    for key in _VOCABULARY:
        if key in found and key in wanted and len(found[key]) > len(wanted[key]):
            found[key] = found[key][: len(wanted[key])]
    found = {key: value for key, value in found.items() if key in wanted or not _tied(model, key)}
    problems = mismatches(wanted, found)
    if problems:
        raise CheckpointError(
            f"The checkpoint's language model is another than this model's, {len(problems)} weights differ:\n  "
            + "\n  ".join(problems[:20])
            + "\nIt must have the same layers and widths. Build the model with language_model='...', the one the "
            "checkpoint was trained from. Nothing was changed."
        )
    return found


def _tied(model: CremaModel, key: str) -> bool:
    """Whether a weight is another name of one that `named_parameters` lists once."""
    return key in model.backbone.language_model.state_dict()
