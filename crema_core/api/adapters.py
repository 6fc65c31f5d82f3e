"""Load a shared adapter into a model, which may not have its modality yet."""

from __future__ import annotations

from pathlib import Path

from crema_core.api.adding import add_modality
from crema_core.common.tensors import check_state, copy_state, read_tensors
from crema_core.model.network import CremaNetwork
from crema_core.saving.adapters import TENSORS, adapter_tensors, check_fits, read_description, wanted


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
