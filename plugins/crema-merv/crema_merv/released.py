"""Weights of the released MERV code under our names: key rules, and what their shapes tell about the model.

The released mixer is collapsed to its one vector, unless the model keeps the released weights (`ReleasedMixer`).

Shape letters: E encoders, M width of the released attention, L language-model width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from crema_core.common.tensors import copy_state, mismatches
from crema_core.errors import CheckpointError
from crema_merv.maps import MapKind
from crema_merv.merv import Merv, MixerKind
from crema_merv.projectors import ProjectorKind
from crema_merv.released_mixer import ReleasedMixer

State = Mapping[str, Tensor]

_PROJECTOR_RULES: tuple[tuple[str, str], ...] = (
    (r"^projector\.(?:projector\.)?((?:\d\.)?(?:weight|bias))$", r"map.\1"),
    (r"^query_tokens$", "resampler.queries"),
    (r"^cross_attn\.norm1\.(weight|bias)$", r"resampler.norm.\1"),
    (r"^cross_attn\.norm2\.(weight|bias)$", r"resampler.mlp_norm.\1"),
    (r"^cross_attn\.xattn\.q\.(weight|bias)$", r"resampler.query.\1"),
    (r"^cross_attn\.xattn\.kv\.(weight|bias)$", r"resampler.key_value.\1"),
    (r"^cross_attn\.xattn\.proj\.(weight|bias)$", r"resampler.output.\1"),
    (r"^cross_attn\.mlp\.fc1\.(weight|bias)$", r"resampler.mlp.0.\1"),
    (r"^cross_attn\.mlp\.fc2\.(weight|bias)$", r"resampler.mlp.2.\1"),
    (r"^convolution_pooling\.0\.(weight|bias)$", r"resampler.convolution.\1"),
    (r"^convolution_pooling\.0\.(b\d+\..+)$", r"resampler.before.\1"),
    (r"^convolution_pooling\.2\.(b\d+\..+)$", r"resampler.after.\1"),
)
_MAPS: dict[frozenset[str], MapKind] = {
    frozenset(): "none",
    frozenset({"map.weight"}): "linear",
    frozenset({"map.0.weight", "map.2.weight"}): "gelu_mlp",
    frozenset({"map.0.weight", "map.2.weight", "map.4.weight"}): "fused_gelu_mlp",
}


class ReleasedProjector(NamedTuple):
    """What the weights of one projector tell.

    Attributes:
        kind: "average" stands for every kind without weights of its own before the map: over time or not, one token.
        map_kind: see `make_map`.
        feature_dim: width of the encoder.
        width: L.
        num_tokens: of a step, where the weights tell (learned queries).
        num_blocks: of "conv".
    """

    kind: ProjectorKind
    map_kind: MapKind
    feature_dim: int
    width: int
    num_tokens: int | None = None
    num_blocks: int | None = None


class ReleasedParts(NamedTuple):
    """Trained weights of a released model, under its own names.

    Attributes:
        projectors: of every encoder, in the order of mixing.
        fusion: of the mixer; empty for those without.
        language_model: under the names of transformers; empty where it was not saved.
        step: of the training it was saved at, where that is recorded.
    """

    projectors: tuple[State, ...]
    fusion: State
    language_model: State
    step: int | None = None


def describe_projector(state: State) -> ReleasedProjector:
    """Tell a projector's kind and sizes from its weights.

    Raises:
        CheckpointError: naming the keys no released projector has.
    """
    ours = projector_state(state)
    maps = sorted(key for key in ours if re.fullmatch(r"map\.(\d\.)?weight", key))
    map_kind = _MAPS.get(frozenset(maps))
    if not ours or map_kind is None:
        raise CheckpointError(
            f"A projector of the checkpoint has the weights {', '.join(state) or 'none'}. Accepted are a map of 1, 2 "
            "or 3 linear layers and what a released projector has before it. Pass a checkpoint of the released code. "
            "Nothing was changed."
        )
    kind, first, num_tokens, num_blocks = _resampler(state, ours)
    first = ours[maps[0]] if first is None else first
    last = ours[maps[-1]] if maps else first
    feature_dim = first.shape[-1] if kind in ("attentive", "average", "full") else first.shape[1]
    return ReleasedProjector(kind, map_kind, feature_dim, last.shape[0 if maps else -1], num_tokens, num_blocks)


def _resampler(state: State, ours: State) -> tuple[ProjectorKind, Tensor | None, int | None, int | None]:
    if "resampler.queries" in ours:
        return "attentive", ours["resampler.queries"], ours["resampler.queries"].shape[1], None
    if "resampler.convolution.weight" in ours:
        return "conv_3d", ours["resampler.convolution.weight"], None, None
    blocks = {key.split(".")[2] for key in ours if key.startswith("resampler.before.")}
    if blocks:
        return "conv", ours.get("resampler.before.b1.conv1.conv.weight"), None, len(blocks)
    return ("average" if any(key.startswith("projector.projector.") for key in state) else "full"), None, None, None


def describe_mixer(fusion: State) -> MixerKind | None:
    """Tell the mixer from its weights; None for those without any (concatenation, the mean, a single encoder)."""
    if "Q" in fusion:
        return "cross_attention"
    if "scalar" in fusion:
        return "scalar"
    if "projector.weight" in fusion:
        return "channel"
    return "channel_norm" if "1.projector.weight" in fusion else None


def projector_state(state: State) -> dict[str, Tensor]:
    """Rename one projector's weights.

    Raises:
        CheckpointError: naming the keys no rule knows.
    """
    renamed = {key: _rename(key) for key in state}
    unknown = [key for key, new in renamed.items() if new is None]
    if unknown:
        raise CheckpointError(
            f"The checkpoint has projector weights of unknown names: {', '.join(unknown)}. Accepted are those of the "
            "released average, attentive, conv, 3dconv and per-token projectors. Pass a checkpoint of the released "
            "code. Nothing was changed."
        )
    return {new: state[key] for key, new in renamed.items() if new is not None}


def _rename(key: str) -> str | None:
    for pattern, replacement in _PROJECTOR_RULES:
        new, count = re.subn(pattern, replacement, key)
        if count:
            return new
    return None


def mixer_state(fusion: State, *, collapse: bool = True) -> dict[str, Tensor]:
    """Rename a mixer's weights.

    Args:
        fusion: from `ReleasedParts`.
        collapse: make one vector of the attention; False keeps the weights `ReleasedMixer` trains.

    Returns:
        Names of our mixers; a weight no mixer of ours has keeps its name, for `load_released` to refuse.
    """
    kind = describe_mixer(fusion)
    if kind == "cross_attention":
        return _attention(fusion, collapse=collapse)
    table = {"scalar": "scores", "projector.": "map.", "1.projector.": "map.", "0.": "norm."}
    renamed = {}
    for key, value in fusion.items():
        start = next((start for start in table if key.startswith(start)), "")
        renamed[table.get(start, "") + key.removeprefix(start)] = value
    return renamed


def _attention(fusion: State, *, collapse: bool) -> dict[str, Tensor]:
    packed, bias = fusion.get("attention.in_proj_weight"), fusion.get("attention.in_proj_bias")
    names = ("attention.q_proj_weight", "attention.k_proj_weight")
    if bias is None or (packed is None and any(name not in fusion for name in names)):
        raise CheckpointError(
            f"The mixer of the checkpoint has the weights {', '.join(fusion)}. A released one has Q, "
            "attention.in_proj_bias and either attention.in_proj_weight or attention.q_proj_weight and k_proj_weight. "
            "Pass a complete checkpoint. Nothing was changed."
        )
    query, key = packed.chunk(3)[:2] if packed is not None else (fusion[name] for name in names)
    own = {"query": fusion["Q"], "query_map.weight": query, "query_map.bias": bias.chunk(3)[0], "key_map.weight": key}
    positions = {"positions": fusion["pe"]} if "pe" in fusion else {}
    if not collapse:
        return own | positions
    query_1M, key_ML = own["query"].double(), key.double()
    vector_L = (query_1M[0] @ query.double().T + own["query_map.bias"].double()) @ key_ML / math.sqrt(len(key_ML))
    collapsed = {"query": vector_L.float()}
    return collapsed | ({"prior": (fusion["pe"].double() @ vector_L).float()} if positions else {})


def load_released(merv: Merv, parts: ReleasedParts) -> None:
    """Put released weights into projectors and a mixer built for the same encoders.

    Args:
        merv: its mixer decides whether the released attention is collapsed.
        parts: from `crema_merv.checkpoint.read_released_merv`.

    Raises:
        CheckpointError: telling what the checkpoint is and every weight that does not fit; nothing is changed then.
    """
    described = [describe_projector(state) for state in parts.projectors]
    mixer = mixer_state(parts.fusion, collapse=not isinstance(merv.mixer, ReleasedMixer))
    state = {f"mixer.{key}": value for key, value in mixer.items()}
    for index, projector in enumerate(parts.projectors):
        state |= {f"projectors.{index}.{key}": value for key, value in projector_state(projector).items()}
    parameters = dict(merv.named_parameters())
    problems = mismatches(parameters, state)
    if problems:
        raise CheckpointError(
            f"The released checkpoint does not fit this model, {len(problems)} weights differ:\n  "
            + "\n  ".join(problems)
            + f"\nIt has {_told(described)}, and the mixer {describe_mixer(parts.fusion) or 'without weights'}. Build "
            "the model with its encoders, in its order, its projector, map and mixer. Nothing was changed."
        )
    copy_state(parameters, state)


def _told(described: Sequence[ReleasedProjector]) -> str:
    told = [f"{one.kind} + {one.map_kind} {one.feature_dim} -> {one.width}" for one in described]
    return f"{len(told)} projectors ({', '.join(told)})"
