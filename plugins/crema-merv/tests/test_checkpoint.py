"""Files of the released MERV code, in their real layout."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.errors import CheckpointError
from crema_merv.checkpoint import read_released_merv
from crema_merv.released import load_released
from tests.support.merv import ENCODERS, KINDS, golden_merv, load, released_fusion, released_projectors
from tests.support.numeric import assert_close_to_scale

ABOUT, TENSORS = load("projectors")
_, MIXERS = load("fusion")


def content(case: str = "avg2d_linear") -> dict[str, Any]:
    """What such a file holds after training, with an optimizer."""
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    return {
        "model": {
            "projectors": OrderedDict(released_projectors(TENSORS, case)),
            "llm_backbone": OrderedDict({"llm.model.embed_tokens.weight": torch.ones(8, 4)}),
            "feature_fusion": OrderedDict(released_fusion(MIXERS, "cross_attention_avg_lq")),
        },
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"last_epoch": 7, "_last_lr": [1e-3]},
        "step": 42,
    }


def save(folder: Path, what: object, *, zipped: bool = True) -> Path:
    path = folder / "latest-checkpoint.pt"
    torch.save(what, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("case", KINDS)
def test_a_file_of_the_released_code_gives_the_released_tokens(case: str, tmp_path: Path) -> None:
    parts = read_released_merv(save(tmp_path, content(case)))
    merv = golden_merv(ABOUT, case)
    load_released(merv, parts)
    merv.double()
    features = [TENSORS[f"{case}/{encoder}/in"].double() for encoder in ENCODERS]
    for projector, values, encoder in zip(merv.projectors, features, ENCODERS, strict=True):
        tokens = projector(values, torch.ones(values.shape[:2], dtype=torch.bool)).values
        assert_close_to_scale(tokens.flatten(1, 2), TENSORS[f"{case}/{encoder}/out"])
    assert parts.step == 42
    assert {key: value.sum().item() for key, value in parts.language_model.items()} == {
        "model.embed_tokens.weight": 32,
    }  # fmt: skip


def test_files_of_old_torch_and_without_an_optimizer_are_read(tmp_path: Path) -> None:
    parts = read_released_merv(save(tmp_path, {"model": content()["model"]}, zipped=False))
    assert len(parts.projectors) == 4
    assert parts.step is None


def test_names_of_earlier_versions_are_understood(tmp_path: Path) -> None:
    new = content()["model"]
    first = {key.removeprefix("0."): value for key, value in new["projectors"].items() if key.startswith("0.")}
    parts = read_released_merv(save(tmp_path, {"model": {"projector": first, "adapter": new["feature_fusion"]}}))
    assert [set(one) for one in parts.projectors] == [{"projector.projector.weight", "projector.projector.bias"}]
    assert set(parts.fusion) == set(new["feature_fusion"])
    assert parts.language_model == {}


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "latest-checkpoint.pt"
    path.write_bytes(pickle.dumps({"model": Path.cwd}, protocol=2))
    with pytest.raises(CheckpointError) as caught:
        read_released_merv(path)
    assert str(caught.value).startswith(f"'{path}' cannot be read: ")
    assert str(caught.value).endswith(
        ". Accepted: a torch file of the released MERV code (it is read without executing code). Download it again."
    )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_released_merv(tmp_path / "a.pt")
    assert str(caught.value) == (
        f"'{tmp_path / 'a.pt'}' cannot be read: [Errno 2] No such file or directory: '{tmp_path / 'a.pt'}'. Accepted: "
        "a torch file of the released MERV code (it is read without executing code). Download it again."
    )


@pytest.mark.parametrize(("what", "found"), [
    ({"weight": torch.zeros(1)}, "weight"),
    ({"model": {"weight": torch.zeros(1)}, "step": 1}, "model, step, and in its 'model' weight"),
    ([torch.zeros(1)], "list"),
])  # fmt: skip
def test_another_checkpoint_is_refused(what: object, found: str, tmp_path: Path) -> None:
    path = save(tmp_path, what)
    with pytest.raises(CheckpointError) as caught:
        read_released_merv(path)
    assert str(caught.value) == (
        f"'{path}' is no checkpoint of MERV: it holds {found}. Accepted: a file whose 'model' holds 'projectors'. Pass "
        "a file of the folder 'checkpoints' of a released run."
    )


@pytest.mark.parametrize(("projectors", "told"), [
    ({"projector.weight": torch.zeros(1)}, "has the projector weight 'projector.weight'. Accepted: names that begin "
     "with the number of an encoder, such as '0.projector.projector.weight'. Pass a checkpoint of the released code."),
    ({"0.a": torch.zeros(1), "2.a": torch.zeros(1)}, "has projectors of the encoders 0, 2. Accepted: 0, 1 and so on "
     "without a gap. Pass a complete checkpoint."),
    ({}, "has projectors of the encoders none. Accepted: 0, 1 and so on without a gap. Pass a complete checkpoint."),
    ({"0.a": "text"}, "holds no weights under 'model', 'projectors'. Accepted: a mapping of tensors. Download it "
     "again."),
])  # fmt: skip
def test_incomplete_projectors_are_refused(projectors: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = save(tmp_path, {"model": {"projectors": projectors}})
    with pytest.raises(CheckpointError) as caught:
        read_released_merv(path)
    assert str(caught.value) == f"'{path}' {told}"
