"""Names and shapes of a released PAVE patch: its keys to ours and back, and what shapes say about how it is built.

The class that wrote them (PAVEModuleV5) is not named in a checkpoint, so widths, layers and stages come from shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

DEAD = re.compile(r"^cross_attn_layers\.\d+\.attn\.v_linear\.(weight|bias)$")
# Released name, ours. "#" is a number, "#+" one that counts the stem as 0, "*" is weight or bias.
_RULES: tuple[tuple[str, str], ...] = (
    ("input_mapping.0.conv.*", "side_map.stem.*"),
    ("input_mapping.0.norm.*", "side_map.stem_norm.*"),
    ("input_mapping.#+.res#.branch1.*", "side_map.stages.#.#.shortcut.*"),
    ("input_mapping.#+.res#.branch1_norm.*", "side_map.stages.#.#.shortcut_norm.*"),
    ("input_mapping.#+.res#.branch2.a.*", "side_map.stages.#.#.time.*"),
    ("input_mapping.#+.res#.branch2.a_norm.*", "side_map.stages.#.#.time_norm.*"),
    ("input_mapping.#+.res#.branch2.b.*", "side_map.stages.#.#.space.*"),
    ("input_mapping.#+.res#.branch2.b_norm.*", "side_map.stages.#.#.space_norm.*"),
    ("input_mapping.#+.res#.branch2.c.*", "side_map.stages.#.#.expand.*"),
    ("input_mapping.#+.res#.branch2.c_norm.*", "side_map.stages.#.#.expand_norm.*"),
    ("input_mapping.*", "side_map.*"),
    ("query_input_mapping.*", "query_map.*"),
    ("learnable_query", "learnable"),
    ("cross_attn_layers.#.attn.q_linear.*", "layers.#.attention.query.*"),
    ("cross_attn_layers.#.attn.k_linear.*", "layers.#.attention.key.*"),
    ("cross_attn_layers.#.ffn.0.*", "layers.#.norm.*"),
    ("cross_attn_layers.#.ffn.1.*", "layers.#.up.*"),
    ("cross_attn_layers.#.ffn.3.*", "layers.#.down.*"),
    ("output_mapping.0.*", "adapter.0.*"),
    ("output_mapping.2.*", "adapter.2.*"),
    ("output_norm.*", "norm.*"),
)


_PLACE = r"#\+|[#*]"


def our_name(released: str) -> str | None:
    """Return our name of a released key (without what is before it), None when no rule knows it."""
    for theirs, ours in _RULES:
        if parts := _match(theirs, released):
            return _fill(ours, parts, shift=-1 if "#+" in theirs else 0)
    return None


def released_name(ours: str) -> str | None:
    """Return the released key of one of our names, None for what the released module does not have."""
    for theirs, own in _RULES:
        if parts := _match(own, ours):
            return _fill(theirs, parts, shift=1 if "#+" in theirs else 0)
    return None


def _match(pattern: str, name: str) -> list[str]:
    places = [
        {"*": "(weight|bias)", "#": r"(\d+)", "#+": r"([1-9]\d*)"}[place] for place in re.findall(_PLACE, pattern)
    ]
    match = re.fullmatch(_join([re.escape(text) for text in re.split(_PLACE, pattern)], places), name)
    return [] if match is None else [name, *match.groups()]


def _fill(pattern: str, parts: Sequence[str], *, shift: int) -> str:
    values = list(parts[1:])
    if shift:
        values[0] = str(int(values[0]) + shift)
    return _join(re.split(_PLACE, pattern), values)


def _join(texts: Sequence[str], places: Sequence[str]) -> str:
    return "".join(text + place for text, place in zip(texts, [*places, ""], strict=True))


def missing_anchors(state: Mapping[str, Tensor]) -> list[str]:
    """Return our names of the tensors `patch_arguments` reads that are absent or have another number of dimensions."""
    wanted = {"norm.weight": 1}
    wanted |= {"learnable": 3} if "learnable" in state else {"query_map.weight": 2}
    if any(key.startswith(("side_map.stem.", "side_map.stages.")) for key in state):
        wanted |= {"side_map.stem.weight": 5}
        wanted |= {f"side_map.stages.{stage}.0.expand.weight": 5 for stage in range(_num_stages(state))}
    else:
        wanted |= {"side_map.weight": 2}
    return [name for name, dims in wanted.items() if name not in state or state[name].dim() != dims]


def patch_arguments(state: Mapping[str, Tensor], *, conv_strides: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of `PavePatch` that shapes tell.

    Args:
        state: weights under our names, without missing anchors.
        conv_strides: stride of every stage, empty for 1s.
    """
    layers = {key.split(".")[1] for key in state if key.startswith("layers.")}
    arguments: dict[str, Any] = {
        "output_dim": state["norm.weight"].shape[0],
        "num_layers": max(1, len(layers)),
        "shared_value": True,
        "alignment": "count",
    }
    if "learnable" in state:
        frames, tokens, hidden = state["learnable"].shape
        arguments |= {"queries": "learnable", "query_dim": None, "num_frames": frames, "tokens_per_frame": tokens}
        arguments["hidden_dim"] = hidden
    else:
        arguments["hidden_dim"], arguments["query_dim"] = state["query_map.weight"].shape
    if "side_map.stem.weight" not in state:
        arguments["embed_dim"], arguments["side_dim"] = state["side_map.weight"].shape
        return arguments
    arguments["embed_dim"], arguments["side_dim"] = state["side_map.stem.weight"].shape[:2]
    strides = conv_strides or [1] * _num_stages(state)
    stages = []
    for number, stride in enumerate(strides):
        width, inner = state[f"side_map.stages.{number}.0.expand.weight"].shape[:2]
        blocks = {key.split(".")[3] for key in state if key.startswith(f"side_map.stages.{number}.")}
        stages.append((width, inner, len(blocks), stride))
    return arguments | {"side_map": "conv", "conv_stages": stages}


def check_strides(state: Mapping[str, Tensor], conv_strides: Sequence[int]) -> list[str]:
    """Return a line on what is wrong with the number of strides, none when nothing is."""
    stages = _num_stages(state)
    if conv_strides and len(conv_strides) != stages:
        return [f"stages: conv_strides has {len(conv_strides)} numbers, the weights have {stages} stages"]
    return []


def _num_stages(state: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[2] for key in state if key.startswith("side_map.stages.")})
