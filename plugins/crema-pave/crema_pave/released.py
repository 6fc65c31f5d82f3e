"""Released PAVE patches to patches of this package, and back.

A released run is a folder with `non_lora_trainables.bin` (the patch, a torch file), a PEFT adapter (the LoRA of the
language model) and a configuration that does not say how the patch is built. Widths and layers are read from shapes
here; what leaves no trace in them (heads, rotary embedding, strides) are arguments with the published values as
defaults. Every layer stores a value projection that is never called: it is left aside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crema_core.common.tensors import mismatches, read_released
from crema_core.errors import CheckpointError
from crema_pave.patch import PavePatch
from crema_pave.released_keys import DEAD, check_strides, missing_anchors, our_name, patch_arguments, released_name
from crema_pave.rotary import Rotary

PATCH_FILES = ("non_lora_trainables.bin", "mm_projector.bin")
PREFIX = "base_model.model.model.temporal_aggregator."
_PREFIX = re.compile(r"^([\w.]+\.)?temporal_aggregator\.")


class ReleasedPatch(NamedTuple):
    """A released patch under our names.

    Attributes:
        arguments: of `PavePatch`, inferred from shapes and given.
        state: its state dict.
        left_aside: released keys that are stored and never used.
        lora: the PEFT adapter folder trained with the patch, None when there is none beside it.
    """

    arguments: dict[str, Any]
    state: dict[str, Tensor]
    left_aside: list[str]
    lora: Path | None = None

    def build(self) -> PavePatch:
        """Return the patch with its weights, on the CPU, in the dtype they are stored in."""
        with torch.device("meta"):
            patch = PavePatch(**self.arguments)
        patch.load_state_dict({key: value.clone() for key, value in self.state.items()}, assign=True)
        return patch


def read_released_patch(
    path: str | Path, *, num_heads: int = 4, rotary: Rotary = "none", conv_strides: Sequence[int] = ()
) -> ReleasedPatch:
    """Read a released patch from its folder or file; the file is read without executing code.

    Args:
        path: a run's folder, its `non_lora_trainables.bin` (or `mm_projector.bin` of a run without LoRA), or a
            safetensors file with the same names.
        num_heads: attention heads, 4 in all published runs.
        rotary: "none" in all published runs, "released_3d" for the V5_1_2 configurations.
        conv_strides: spatial stride of every stage, for a patch with the convolutional side map; empty for 1s.

    Raises:
        CheckpointError: when the file is absent or damaged, or keys or shapes are not a patch's.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        found = [path / name for name in PATCH_FILES if (path / name).is_file()]
        if not found:
            raise CheckpointError(
                f"'{path}' has no patch. Accepted: a folder with {' or '.join(PATCH_FILES)}. Pass the folder of a "
                "released PAVE run, or the file itself."
            )
        file = found[0]
    patch = from_released_patch(read_released(file), num_heads=num_heads, rotary=rotary, conv_strides=conv_strides)
    lora = file.parent if (file.parent / "adapter_config.json").is_file() else None
    return patch._replace(lora=lora)


def from_released_patch(
    state: Mapping[str, Tensor], *, num_heads: int = 4, rotary: Rotary = "none", conv_strides: Sequence[int] = ()
) -> ReleasedPatch:
    """Convert released weights; arguments and errors as in `read_released_patch`.

    Args:
        state: released names, with or without what is before `temporal_aggregator.`.
        num_heads: see `read_released_patch`.
        rotary: see `read_released_patch`.
        conv_strides: see `read_released_patch`.
    """
    names = {_PREFIX.sub("", key): key for key in state}
    ours = {key: new for key in names if (new := our_name(key)) is not None}
    dead = [key for key in names if DEAD.match(key)]
    found = {new: state[names[key]] for key, new in ours.items()}
    problems = [f"unknown: {names[key]}" for key in names if key not in ours and key not in dead]
    problems += [f"twice: {key}" for key in state if names[_PREFIX.sub("", key)] != key]
    anchors = missing_anchors(found)
    problems += [f"missing: {released_name(name)}" for name in anchors if name not in found]
    problems += [f"shape: {released_name(name)} is {tuple(found[name].shape)}" for name in anchors if name in found]
    problems += check_strides(found, conv_strides)
    arguments: dict[str, Any] = {"num_heads": num_heads, "rotary": rotary}
    if not anchors and not check_strides(found, conv_strides):
        arguments |= patch_arguments(found, conv_strides=conv_strides)
        problems += _differences(arguments, found)
    problems += [
        f"shape: {names[key]} is {tuple(state[names[key]].shape)}, the key projection is {tuple(found[twin].shape)}"
        for key in dead
        if (twin := str(our_name(key.replace("v_linear", "k_linear")))) in found
        if found[twin].shape != state[names[key]].shape
    ]
    if problems:
        raise CheckpointError(
            f"These weights are no PAVE patch, {len(problems)} keys differ:\n  "
            + "\n  ".join(problems)
            + "\nAccepted: all weights of one released patch (class PAVEModuleV5) and nothing else. Pass the "
            "non_lora_trainables.bin of a released run. Nothing was changed."
        )
    return ReleasedPatch(arguments, found, [names[key] for key in dead])


def export_released_patch(patch: PavePatch, *, prefix: str = PREFIX) -> dict[str, Tensor]:
    """Return a patch's weights under the released names, the inverse of `from_released_patch`.

    The value projections released code stores and never calls are zeros, so the number of parameters is the released
    one (9.0M for a 7B language model, of which 0.5M never act).

    Args:
        patch: with shared_value=True.
        prefix: what is before every name.

    Raises:
        CheckpointError: for a patch with value projections of its own, which released code cannot run.
    """
    state: dict[str, Tensor] = {}
    for name, value in patch.state_dict().items():
        released = released_name(name)
        if released is None:
            raise CheckpointError(
                "This patch has value projections of its own. The released code uses the key projection for values. "
                "Export a patch built with shared_value=True."
            )
        state[prefix + released] = value.detach().clone()
        if ".attention.key." in name:
            state[prefix + released.replace("k_linear", "v_linear")] = torch.zeros_like(value)
    return state


def _differences(arguments: Mapping[str, Any], found: Mapping[str, Tensor]) -> list[str]:
    with torch.device("meta"):
        wanted = PavePatch(**arguments).state_dict()
    lines = []
    for line in mismatches(wanted, found):
        kind, name, *rest = line.split(" ", 2)
        lines.append(" ".join([kind, str(released_name(name)), *rest]).replace("the model's is", "the others need"))
    return lines
