"""A released PAVE run into a built model: the patch of one modality, and the LoRA of the language model beside it.

What leaves no trace in the weights (heads, rotary embedding, alignment, the LoRA's scale) is compared with the model's
settings, because weights that load into another arithmetic would answer silently otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from crema_core.api.model import CremaModel
from crema_core.common.reading import read_object, shown
from crema_core.common.tensors import copy_state, read_released
from crema_core.errors import CheckpointError, ReadError
from crema_core.model.tuning import LanguageLora
from crema_pave.patch import PavePatch
from crema_pave.released import ReleasedPatch, read_released_patch
from crema_pave.rotary import Rotary

_PEFT = (
    "Needed is the file as PEFT wrote it beside the run's weights, with whole numbers 'r' and 'lora_alpha'. Copy it "
    "again. Nothing was changed."
)
MOST_RANK = 100_000
LORA_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_LORA = re.compile(r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<matrix>[AB])(\.\w+)?\.weight$")


def load_released_run(
    model: CremaModel,
    name: str,
    path: str | Path,
    *,
    num_heads: int = 4,
    rotary: Rotary = "none",
    conv_strides: Sequence[int] = (),
) -> list[str]:
    """Copy a released run's weights into a model.

    Args:
        model: built with fusion={"name": "pave", "shared_value": True, "alignment": "count"} and, for a run with LoRA,
            tuning with its rank and alpha.
        name: the supporting modality the run's features are of.
        path: the run's folder, or its file of the patch.
        num_heads, rotary, conv_strides: of the run, see `read_released_patch`.

    Returns:
        Released keys that are stored and never used.

    Raises:
        CheckpointError: when files are absent or damaged, or do not fit the model; nothing is changed then.
    """
    released = read_released_patch(path, num_heads=num_heads, rotary=rotary, conv_strides=conv_strides)
    patch = dict(model.fusion.blocks.named_children()).get(name)
    if not isinstance(patch, PavePatch):
        raise CheckpointError(
            f"This model has no PAVE patch for '{name}'. Accepted: a supporting modality of a model with "
            "fusion='pave'. Name it in build(modalities=[...]). Nothing was changed."
        )
    own: dict[str, object] = {"heads": patch.layers[0].attention.num_heads, "rotary": patch.rotary}  # type: ignore[union-attr]
    own["alignment"] = patch.alignment
    wanted: dict[str, object] = {"heads": num_heads, "rotary": rotary, "alignment": "count"}
    lora: dict[str, Tensor] = {}
    if released.lora is not None:
        lora, settings = _read_lora(released.lora)
        tuning = model.backbone.tuning
        own["LoRA"] = (tuning.rank, tuning.alpha) if isinstance(tuning, LanguageLora) else None
        wanted["LoRA"] = settings
    lines = [f"{key}: {wanted[key]} in the run, {own[key]} here" for key in wanted if own[key] != wanted[key]]
    if lines:
        raise CheckpointError(
            "The released run and this model compute differently:\n  " + "\n  ".join(lines) + "\nAccepted: a model "
            "with the run's settings. Build it with fusion={'name': 'pave', 'shared_value': True, 'alignment': "
            "'count'} and tuning={'rank': ..., 'alpha': ...}. Nothing was changed."
        )
    parameters = {f"patch.{key}": value for key, value in patch.named_parameters()}
    # A vision-language model holds its language model one level deeper than the released code's.
    inner = {key.replace("model.language_model.", "model."): own for key, own in model.language_parameters().items()}
    parameters |= {f"language.{key}": value for key, value in inner.items() if lora}
    state = {f"patch.{key}": value for key, value in released.state.items()}
    copy_state(parameters, state | {f"language.{key}": value for key, value in lora.items()})
    return released.left_aside


def fusion_options(released: ReleasedPatch) -> dict[str, Any]:
    """Return the options of `fusion="pave"` a released patch was trained with, as far as its weights tell.

    Raises:
        CheckpointError: for layers of another width than the mapped side tokens, which no option requests.
    """
    own = released.arguments
    hidden, mapped = own["hidden_dim"], own["conv_stages"][-1][0] if "conv_stages" in own else own["embed_dim"]
    if hidden != mapped:
        raise CheckpointError(
            f"The layers of the released patch are {hidden} wide, its mapped side tokens {mapped}. Accepted: one width "
            "for both, as in all published runs. Read it with read_released_patch and build a PavePatch by hand."
        )
    names = ("embed_dim", "num_layers", "num_heads", "rotary", "alignment", "shared_value", "side_map", "conv_stages")
    found = {name: own[name] for name in names if name in own}
    if own.get("queries") == "learnable":
        found |= {"queries": "learnable", "num_frames": own["num_frames"]}
    return found


def lora_settings(folder: Path) -> dict[str, int]:
    """Return rank and alpha of a run's LoRA, as `build(tuning=...)` takes them.

    Raises:
        CheckpointError: when its adapter_config.json cannot be read or states none.
    """
    file = folder / "adapter_config.json"
    try:
        config = read_object(file)
    except ReadError as error:
        raise CheckpointError(f"{shown(file)} {error.reason}. {_PEFT}") from error
    found = {name: config.get(key) for name, key in (("rank", "r"), ("alpha", "lora_alpha"))}
    settings = {name: int(value) for name, value in found.items() if _is_count(value)}
    if len(settings) < len(found):
        said = ", ".join(f"{name}={str(value)[:40]!r}" for name, value in found.items())
        raise CheckpointError(f"{shown(file)} states no LoRA that can be read: {said}. {_PEFT}")
    return settings


def _is_count(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 1 <= value <= MOST_RANK and value == int(value)


def _read_lora(folder: Path) -> tuple[dict[str, Tensor], tuple[int, int]]:
    files = [folder / name for name in LORA_FILES if (folder / name).is_file()]
    if not files:
        raise CheckpointError(
            f"'{folder}' has adapter_config.json and no weights of the LoRA. Accepted: {' or '.join(LORA_FILES)} "
            "beside it. Copy the folder again. Nothing was changed."
        )
    settings = lora_settings(folder)
    state = {}
    for key, value in read_released(files[0]).items():
        found = _LORA.match(key)
        state[key if found is None else f"{found['layer']}.{found['matrix']}"] = value
    return state, (settings["rank"], settings["alpha"])
