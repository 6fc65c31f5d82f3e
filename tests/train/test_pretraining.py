"""One modality trained alone, then used beside others without further training (CREMA appendices A.3 and A.5)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_core.train.settings import train_settings

pytestmark = pytest.mark.slow

make_world = pytest.importorskip("crema_world").make_world
AUDIO = {"name": "audio", "window_s": 0.5, "num_windows": 4, "mmqa": {"lora_rank": 4}}


def about_sound(data_file: Path, *names: str) -> list[Record]:
    return [record for record in read_data_file(data_file, modalities=names) if record.type == "first_sound"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, torch.Tensor]]:
    """The data file, the adapter's folder and its weights."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("pretraining")
    data_file = make_world(place / "world", num_clips=8, seed=0, split="train").data_file
    model = build([AUDIO], backbone="crema-tiny")
    records = about_sound(data_file, "audio")
    quiet = StatusLine(io.StringIO(), enabled=False)
    fit(model, records, out=place / "run", epochs=12, batch_size=8, lr=5e-3, status=quiet)
    model.save_adapter("audio", place / "adapter")
    weights = {key: value.detach().clone() for key, value in model.adapter_parameters("audio").items()}
    return data_file, place / "adapter", weights


def beside_video() -> CremaModel:
    return build(["video", AUDIO], backbone="crema-tiny", fusion="concat")


def test_the_adapter_takes_its_place_beside_another_modality(
    pretrained: tuple[Path, Path, dict[str, torch.Tensor]],
) -> None:
    _, folder, weights = pretrained
    model = beside_video()
    before = {key: value.detach().clone() for key, value in model.adapter_parameters("video").items()}
    model.load_adapter(folder)
    assert all(torch.equal(value, weights[key]) for key, value in model.adapter_parameters("audio").items())
    assert all(torch.equal(value, before[key]) for key, value in model.adapter_parameters("video").items())
    assert not model.fusion_parameters()


def test_the_adapter_comes_as_a_new_modality_too(pretrained: tuple[Path, Path, dict[str, torch.Tensor]]) -> None:
    _, folder, weights = pretrained
    model = build(["video"], backbone="crema-tiny", fusion="concat")
    model.load_adapter(folder)
    assert model.names == ("video", "audio")
    assert all(torch.equal(value, weights[key]) for key, value in model.adapter_parameters("audio").items())


def test_what_was_learned_alone_helps_beside_video(pretrained: tuple[Path, Path, dict[str, torch.Tensor]]) -> None:
    """On the clips it was trained with, so that a minute of training suffices to see it."""
    data_file, folder, _ = pretrained
    with_it, without = beside_video(), beside_video()
    with_it.load_adapter(folder)
    records = about_sound(data_file, "video", "audio")
    assert evaluate(with_it, records).accuracy > evaluate(without, records).accuracy


def test_the_papers_settings_have_a_name() -> None:
    settings = train_settings("pretrain")
    assert (settings.epochs, settings.lr) == (1, 1e-5)
