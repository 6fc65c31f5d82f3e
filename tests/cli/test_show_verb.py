"""`crema show`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.cli.main import main
from crema_core.cli.show import picture_name
from crema_core.data import modality_calls
from crema_core.errors import ContractError
from crema_core.modality import BuildContext
from tests.support.modalities import WaveModality, wave_spec
from tests.support.official_datasets import write_clip
from tests.support.packages import needs_names


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


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x.mp4", "x"),
        ("clips/x.mp4#t=1.2,3", "x.1.2-3s"),
        ("x.mp4#t=2", "x.2-end"),
        ("x.mp4#t=,2.50", "x.0-2.5s"),
        ("a#t=b.mp4", "a_t=b"),
        ("a#t=1,2.tar.mp4#t=1,2", "a_t=1,2.tar.1-2s"),
        ("a:b?*|<>\n.mp4", "a_b______"),
        ("/", "source"),
        ("ä ö (1).mp4", "ä ö (1)"),
        ("n" * 240 + ".mp4", "n" * 80),
        ("語" * 80 + ".mp4", "語" * 53),
    ],
)
def test_the_picture_of_any_source_has_a_plain_name(source: str, name: str, folder: Path) -> None:
    picture = picture_name(source, "video")
    assert picture == f"{name}.video.show.png"
    (folder / picture).touch()
    assert (folder / picture).parent == folder


REFUSED = [
    ("a.docx", "ends in '.docx'. 'video' reads ",
     "Convert the file, or rename it if its ending is wrong. Nothing was written."),
    ("noending", "has no ending. 'video' reads ",
     "Convert the file, or rename it if its ending is wrong. Nothing was written."),
    ("absent.mp4", "does not exist. 'video' reads ", "Check the path."),
    ("pipe.png", "is a pipe, not a file. 'video' reads ", "Name another file. Nothing was written."),
    ("0.png#t=1:02", "names a part that cannot be read: '1:02'. Parts are seconds",
     "either may be left out. Write 0.png#t=62,90.5, for example."),
]  # fmt: skip


@pytest.mark.parametrize(("source", "begins", "ends"), REFUSED)
def test_what_is_not_read_is_refused_before_anything_is_built(
    source: str,
    begins: str,
    ends: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modality_calls, "construct", lambda *_: pytest.fail("it was built"))
    for name in ("a.docx", "noending"):
        (folder / name).write_bytes(b"text")
    os.mkfifo(folder / "pipe.png")
    assert main(["show", source, "--modality", "video"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"crema: '{source}' {begins}")
    assert said.endswith(f"{ends}\n")
    assert not list(folder.glob("*show*"))


@needs_names("modality", "audio")
def test_modalities_that_read_the_file_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.wav").write_bytes(b"sound")
    assert main(["show", "a.wav", "--modality", "video"]) == 1
    assert "Convert the file, or name a modality that reads it: --modality audio. " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("source", ["a.docx", "absent.mp4"])
def test_what_is_not_read_is_refused_without_torch(source: str, folder: Path) -> None:
    (folder / "a.docx").write_bytes(b"text")
    program = (
        "import sys; from crema_core.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'torch', 'av', 'PIL', 'transformers'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program, "show", source, "--modality", "video"]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    assert ended.stdout == "1 []\n"


@needs_names("modality", "depth")
def test_a_part_of_what_is_read_as_a_whole_is_refused_with_what_to_type(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "d.npz", depth=np.ones((4, 4), np.float32))
    assert main(["show", "d.npz#t=1,2", "--modality", "depth"]) == 1
    assert capsys.readouterr().err == (
        "crema: 'd.npz#t=1,2' names a part of a file that is read as a whole. Parts in seconds are taken of clips and "
        "sounds. Name the file alone: d.npz\n"
    )
    assert main(["show", "d.npz", "--modality", "depth"]) == 0


@needs_names("modality", "thermal")
def test_what_the_picture_hardly_shows_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "t.npz", thermal=np.array([[293.15, 294.15]], np.float32))
    assert main(["show", "t.npz", "--modality", "thermal"]) == 0
    picture, hint, advice = capsys.readouterr().out.splitlines()
    assert picture.startswith("t.thermal.show.png  ")
    assert hint.startswith("'t.npz' has temperatures of 20.0 to 21.0 °C, 1.0 of the 35 °C that the colours cover")
    assert advice == "Options are set with --set NAME=VALUE."
    assert main(["show", "t.npz", "--modality", "thermal", "--force", "--set", "window=per_clip"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
