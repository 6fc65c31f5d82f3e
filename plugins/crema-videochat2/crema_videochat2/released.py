"""Released VideoChat2 files: what is in them, and under which of our names.

Three kinds of files were released: stage 1 (vision encoder and Q-Former with its text parts), stage 2 (extra queries
and projection added, text parts removed) and stage 3 (everything that was trained, the language model's LoRA included).
A stage-3 file is enough; a stage-2 file takes its text parts from stage 1 and has no LoRA. The frozen language model is
in none of them.

Nothing is dropped unseen: keys that no stage after the first uses are known by name and reported, every other key that
has no place is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crema_core.common.tensors import no_room
from crema_core.errors import CheckpointError, first_line

VISION, QFORMER, LANGUAGE = "vision_encoder.encoder.", "qformer.bert.", "mistral_model."
LORA = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])\.default\.weight")
_WRAPPER = "base_model.model."
# Of the contrastive and matching losses of stage 1, and the language-model head of its Q-Former.
_OF_STAGE_1 = re.compile(r"(vision_temp_embed|temp|(vision_proj|text_proj|itm_head|qformer\.cls)\..+)$")
_TEXT_PARTS = re.compile(
    r"qformer\.bert\.(embeddings\.(word|position)_embeddings\.weight|encoder\.layer\.\d+\.(intermediate|output)\..+)$"
)
_POSITION_IDS = "qformer.bert.embeddings.position_ids"


@dataclass(frozen=True)
class ReleasedWeights:
    """The weights of released files under our names.

    Attributes:
        trunk: of `crema_videochat2.model.VideoChat2Trunk`.
        lora: of the language model, keyed `<layer>.lora_A.weight` and `<layer>.lora_B.weight`; empty where there is
            none.
        aside: keys of the files that nothing after stage 1 uses, or that a later stage replaces.
    """

    trunk: dict[str, Tensor]
    lora: dict[str, Tensor] = field(default_factory=dict)
    aside: tuple[str, ...] = ()


def read_file(path: str | Path) -> dict[str, Tensor]:
    """Read a released file without executing code: a mapping of tensors, flat or under the key `model`.

    Raises:
        CheckpointError: when the file is absent or damaged, or holds anything but tensors.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, all with their reason
        raise no_room(path, error) or CheckpointError(
            f"'{path}' cannot be read: {first_line(error)}. Accepted: a torch file of tensors, which is read without "
            "executing code; a raw training file may hold a configuration object beside them. Download it again, or "
            "write its tensors where you trust it: torch.save(torch.load(FILE, weights_only=False)['model'], NEW)."
        ) from error
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"'{path}' holds no weights. Accepted: a mapping of tensors, or one under the key 'model'. Pass a released "
            "file, for example videochat2_mistral_7b_stage3.pth."
        )
    return dict(state)


def convert_state(
    state: Mapping[str, Tensor], *, stage_1: Mapping[str, Tensor] | None = None, unwrap_lora: bool = False
) -> ReleasedWeights:
    """Bring released weights under our names.

    Args:
        state: of stage 3, or of stage 2.
        stage_1: of stage 1, which stage 2 takes its text parts from; None for stage 3.
        unwrap_lora: take LoRA names that were wrapped more than once (a run that added its LoRA to a model that had the
            wrapper already) as if they were wrapped once.

    Raises:
        CheckpointError: for a stage-2 file without stage 1, a stage-3 file with one, keys that have no place, or LoRA
            names that are wrapped more than once.
    """
    text_keys = [key for key in state if _TEXT_PARTS.match(key)]
    if not text_keys and stage_1 is None:
        raise CheckpointError(
            "This file has no text parts of the Q-Former, as stage 2 leaves them out: they would stay random. "
            "Accepted: a stage-3 file, or a stage-2 file beside that of stage 1. Add --stage-1 umt_l16_qformer.pth."
        )
    if text_keys and stage_1 is not None:
        raise CheckpointError(
            f"This file has the Q-Former's text parts itself ({len(text_keys)} tensors), so it is of stage 3 and "
            "suffices. Accepted: a stage-1 file beside one of stage 2. Leave --stage-1 out."
        )
    whole, aside = dict(state), []
    for key, value in (stage_1 or {}).items():
        if _TEXT_PARTS.match(key):
            whole[key] = value
        else:
            aside.append(f"stage 1: {key}")
    trunk: dict[str, Tensor] = {}
    lora: dict[str, Tensor] = {}
    unknown = []
    for key, value in whole.items():
        if key.startswith(LANGUAGE) and ".lora_" in key:
            lora[lora_name(key, unwrap=unwrap_lora)] = value
        elif key == _POSITION_IDS and torch.equal(value.flatten(), torch.arange(value.numel())):
            aside.append(key)  # a count from 0, which our Q-Former makes itself
        elif _OF_STAGE_1.match(key):
            aside.append(key)
        elif (own := our_name(key)) is not None:
            trunk[own] = value
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} keys of the file have no place in VideoChat2 with Mistral, first: "
            f"{', '.join(unknown[:3])}. They are not dropped. Accepted: the released stage-3 layout, or stage 2 with "
            "stage 1. Check that the file is of the Mistral version and not of an HD, Phi or Vicuna one."
        )
    return ReleasedWeights(trunk, lora, tuple(aside))


def lora_name(key: str, *, unwrap: bool) -> str:
    found = LORA.fullmatch(key.removeprefix(LANGUAGE))
    layer = "" if found is None else found["layer"]
    times = 0
    while layer.startswith(_WRAPPER):
        layer, times = layer.removeprefix(_WRAPPER), times + 1
    if found is None or not times or ".lora_" in layer or layer.endswith("base_layer"):
        raise CheckpointError(
            f"'{key}' is not a name of a LoRA on Mistral as peft writes it. Accepted: "
            f"{LANGUAGE}{_WRAPPER}<layer>.lora_A.default.weight, and lora_B. Convert the file that was released."
        )
    if times > 1 and not unwrap:
        raise CheckpointError(
            f"'{key}' was wrapped {times} times: a run that starts from a model with LoRA and adds the wrapper again "
            f"writes such names, and loaded as they are they would be dropped. Accepted: {LANGUAGE}{_WRAPPER} once. "
            "Add --unwrap-lora (in Python unwrap_lora=True) to take them as wrapped once."
        )
    return f"{layer}.lora_{found['side']}.weight"


def our_name(key: str) -> str | None:
    """Return our name of a released key, None where it has none."""
    if key in ("query_tokens", "extra_query_tokens"):
        return key
    if key.startswith("mistral_proj."):
        return key.replace("mistral_proj.", "language_projection.")
    if key.startswith("vision_layernorm."):
        return key.replace("vision_layernorm.", "vision_model.post_layernorm.")
    if key.startswith(VISION):
        own = key.removeprefix(VISION)
        own = re.sub(r"^blocks\.", "encoder.layers.", re.sub(r"^patch_embed\.proj\.", "embeddings.projection.", own))
        return f"vision_model.{own}"
    if key.startswith(QFORMER) and key != _POSITION_IDS:
        own = key.removeprefix(QFORMER).replace("embeddings.LayerNorm.", "embeddings.layernorm.")
        return "qformer." + own.replace("attention.self.", "attention.attention.")
    return None
