"""Optical flow by UniMatch (Xu et al. 2023), which CREMA used, through the library ptlflow where it is installed.

The paper's checkpoint is GMFlow with two scales and six refinements, trained on a mixture of data sets: ptlflow's
`unimatch_sc2_ref6` with weights "mix".
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor

from crema_core.errors import AssetError, MissingRequirementError
from crema_core.model.trainable import freeze
from crema_geometry.experts.weights import read_state, refuse_other_weights

MODEL = "unimatch_sc2_ref6"
ACCEPTED = f"ptlflow's file of {MODEL} (weights mix), .ckpt or .safetensors"


class UniMatchExpert:
    """UniMatch, frozen.

    Args:
        weights: a local file of the weights; nothing is downloaded.
        device: where it runs.

    Raises:
        MissingRequirementError: when ptlflow is not installed.
        AssetError: when the weights are not named, cannot be read or do not fit.
    """

    def __init__(self, *, weights: str | None, device: str = "cpu") -> None:
        if weights is None:
            raise AssetError(
                f"--flow-model unimatch was chosen without weights. Accepted: {ACCEPTED}. Pass --flow-weights "
                "path/to/file.ckpt."
            )
        model = _make()
        state = read_state(weights, accepted=ACCEPTED)
        refuse_other_weights(model, state, weights=weights, name=MODEL, accepted=f"{ACCEPTED}. Download it again")
        model.load_state_dict(state)
        freeze(model)
        self.model = model.eval().to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, first_TCHW: Tensor, second_TCHW: Tensor, *, batch_size: int = 2) -> Tensor:
        """Estimate how pixels of the first frames move to the second.

        Args:
            first_TCHW, second_TCHW: `(T, 3, H, W)` uint8.
            batch_size: pairs per pass.

        Returns:
            `(T, H, W, 2)` pixels to the right and down.
        """
        flows: list[Tensor] = []
        for first, second in zip(first_TCHW.split(batch_size), second_TCHW.split(batch_size), strict=True):
            # ptlflow's models take blue first, in 0..1, and bring pictures to a fitting size themselves.
            pair = torch.stack([first, second], dim=1).to(self.device).flip(2).float() / 255
            flows.append(self.model({"images": pair})["flows"][:, 0].float().cpu())
        return torch.cat(flows).permute(0, 2, 3, 1).contiguous()


def _make() -> Any:
    try:
        with warnings.catch_warnings():  # its dependencies announce changes of their own on import
            warnings.simplefilter("ignore")
            library = importlib.import_module("ptlflow")
            return library.get_model(MODEL)
    except ImportError as error:
        raise MissingRequirementError(
            f"--flow-model unimatch needs ptlflow, which cannot be imported ({error}). It is large and therefore not "
            'installed with this package. Install it: pip install "crema-geometry[unimatch]", or use --flow-model '
            "raft_large."
        ) from error
