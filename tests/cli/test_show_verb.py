"""`crema show`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.cli.main import main
from crema_core.errors import ContractError
from crema_core.modality import BuildContext
from tests.support.modalities import WaveModality, wave_spec
from tests.support.official_datasets import write_clip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_picture_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "1.png", "--modality", "video"]) == 0
    assert capsys.readouterr().out == "1.video.show.png  236 x 254\n"
    with Image.open(folder / "1.video.show.png") as picture:
        assert picture.size == (236, 254)
        assert picture.getpixel((100, 100)) == (60, 60, 60)


def test_options_reach_the_modality(folder: Path) -> None:
    (folder / "frames").mkdir()
    for number in range(3):
        (folder / f"{number}.png").rename(folder / "frames" / f"{number}.png")
    words = ["show", "frames", "--modality", "video", "--set", "num_frames=3", "--out", "a.png"]
    assert main(words) == 0
    with Image.open("a.png") as picture:
        assert picture.size == (3 * 230 + 6, 254)


def test_a_picture_that_is_there_is_replaced_only_by_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "2.png").read_bytes()
    assert main(["show", "1.png", "--modality", "video", "--out", "2.png"]) == 1
    assert capsys.readouterr().err == (
        "crema: '2.png' exists. A picture is written to a new file. Name another --out, or pass --force to replace it. "
        "Nothing was written.\n"
    )
    assert (folder / "2.png").read_bytes() == before
    assert main(["show", "1.png", "--modality", "video", "--out", "2.png", "--force"]) == 0
    assert (folder / "2.png").read_bytes() != before


def test_only_png_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "1.png", "--modality", "video", "--out", "a.jpg"]) == 1
    assert capsys.readouterr().err == (
        "crema: --out is 'a.jpg'. Pictures are written as .png. Write --out a.png. Nothing was written.\n"
    )
    assert not (folder / "a.jpg").exists()


def test_a_file_that_cannot_be_read_leaves_nothing(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"x")
    assert main(["show", "bad.png", "--modality", "video"]) == 1
    assert not list(folder.glob("*show*"))


def test_a_modality_without_a_picture_says_so() -> None:
    modality = WaveModality(wave_spec().options(), BuildContext())
    modality.__class__.spec = wave_spec()
    with pytest.raises(ContractError) as caught:
        modality.show(torch.zeros(1))
    assert str(caught.value) == (
        "The modality 'wave' draws no picture: WaveModality has no show(). It is optional. Ask its authors for one, or "
        "look at the file with other tools."
    )


def test_a_part_of_a_clip_is_drawn_and_names_the_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(folder / "x.mp4", num_frames=60)
    assert main(["show", "x.mp4#t=1.2,3", "--modality", "video", "--set", "num_frames=2"]) == 0
    assert main(["show", "x.mp4", "--modality", "video", "--set", "num_frames=2"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "x.1.2-3s.video.show.png",
        "x.video.show.png",
    ]
    assert (folder / "x.1.2-3s.video.show.png").read_bytes() != (folder / "x.video.show.png").read_bytes()
