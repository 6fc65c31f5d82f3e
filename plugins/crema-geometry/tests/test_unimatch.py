"""UniMatch through ptlflow: pictures reach it as it expects them, and what is missing is said."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from crema_core.errors import AssetError, MissingRequirementError
from crema_geometry.experts.flow import flow_expert
from crema_geometry.experts.unimatch import MODEL, UniMatchExpert


class Mean(nn.Module):
    """Stands in for ptlflow's model: moves everything by the mean blue of the first and red of the second picture."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        images = inputs["images"]
        moved = torch.stack([images[:, 0, 0].mean((1, 2)), images[:, 1, 2].mean((1, 2))], dim=1) * self.scale
        return {"flows": moved[:, None, :, None, None].expand(-1, 1, 2, *images.shape[-2:])}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("ptlflow")
    module.get_model = lambda name: {MODEL: Mean}[name]()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ptlflow", module)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["checkpoint", "state", "safetensors"])
def test_pictures_go_in_blue_first_and_pixels_come_out(tmp_path: Path, kind: str) -> None:
    file, state = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.ckpt"), {"scale": torch.full((1,), 2.0)}
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state} if kind == "checkpoint" else state, file)
    expert = flow_expert("unimatch", weights=str(file))
    first, second = torch.zeros(3, 3, 6, 8, dtype=torch.uint8), torch.zeros(3, 3, 6, 8, dtype=torch.uint8)
    first[:, 2], second[:, 0] = 51, 102  # blue, red
    flow = expert(first, second, batch_size=2)
    assert flow.shape == (3, 6, 8, 2)
    torch.testing.assert_close(flow[2, 5, 7], torch.tensor([0.4, 0.8]))


def test_without_weights_it_is_refused() -> None:
    with pytest.raises(AssetError) as caught:
        UniMatchExpert(weights=None)
    assert str(caught.value) == (
        "--flow-model unimatch was chosen without weights. Accepted: ptlflow's file of unimatch_sc2_ref6 (weights "
        "mix), .ckpt or .safetensors. Pass --flow-weights path/to/file.ckpt."
    )


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ptlflow", None)
    with pytest.raises(MissingRequirementError) as caught:
        UniMatchExpert(weights=str(tmp_path / "w.ckpt"))
    assert str(caught.value) == (
        "--flow-model unimatch needs ptlflow, which cannot be imported (import of ptlflow halted; None in "
        "sys.modules). It is large and therefore not installed with this package. Install it: pip install "
        '"crema-geometry[unimatch]", or use --flow-model raft_large.'
    )


@pytest.mark.usefixtures("library")
def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.ckpt"
    torch.save({"other": torch.zeros(1)}, file)
    with pytest.raises(AssetError) as caught:
        UniMatchExpert(weights=str(file))
    assert str(caught.value) == (
        f"'{file}' does not hold the weights of unimatch_sc2_ref6: 2 keys differ, first: other. Accepted: ptlflow's "
        "file of unimatch_sc2_ref6 (weights mix), .ckpt or .safetensors. Download it again."
    )


def test_the_installed_library_gives_what_it_gives_by_itself(tmp_path: Path) -> None:
    library = pytest.importorskip("ptlflow", reason="ptlflow is not installed")
    torch.manual_seed(0)
    model = library.get_model(MODEL).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.ckpt")
    expert = UniMatchExpert(weights=str(tmp_path / "w.ckpt"))
    first, second = torch.randint(0, 256, (2, 1, 3, 66, 72), dtype=torch.uint8)
    images = torch.stack([first, second], dim=1)[:, :, [2, 1, 0]] / 255
    with torch.no_grad():
        expected = model({"images": images})["flows"][:, 0].permute(0, 2, 3, 1)
    torch.testing.assert_close(expert(first, second), expected)
