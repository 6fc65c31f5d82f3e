"""The demo on a handful of clips with an untrained backbone: every part runs and misses what it must miss."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crema_core.cli.main import main
from crema_core.data.data_file import read_data_file
from crema_core.data.media import read_frames
from crema_world import demo, demo_folder
from crema_world import demo_verb as verb
from crema_world.demo import DemoSettings
from crema_world.demo_report import picture
from crema_world.demo_results import Row, cells, missed, reference_rows
from crema_world.generate import WorldSummary
from crema_world.questions import CHOICES_OF_TYPE, MODALITY_OF_TYPE
from tests.support.world import tiny_folder

pytestmark = pytest.mark.slow  # trains the whole demo, if a short one

__all__ = ["tiny_folder"]

MODALITIES = ("video", "audio", "depth", "flow", "normals", "pointcloud", "touch", "thermal")


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny demo, run through the command line; twice into the same folder would be slow."""
    out = tmp_path_factory.mktemp("demo") / "out"
    defaults = DemoSettings()
    quick = {**defaults.training, "epochs": 1, "batch_size": 18}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "DemoSettings", lambda: dataclasses.replace(defaults, training=quick))
        code = main(["demo", "--out", str(out), "--clips", "4", "--backbone", str(tiny_folder), "--processes", "1"])
    assert code == verb.FINDINGS
    return out


def test_it_leaves_results_report_model_and_predictions(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "demo.json", "model", "predictions", "report.html", "results.json", "run", "world",
    }  # fmt: skip
    assert len(list((finished / "predictions").glob("*.jsonl"))) == len(MODALITIES) + 1


def test_the_results_have_a_row_per_growing_set_and_per_shuffled_modality(finished: Path) -> None:
    rows = json.loads((finished / "results.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["reference"] * 3 + ["set"] * 9 + ["shuffled"] * 8
    assert [tuple(row["modalities"]) for row in rows[3:12]] == [MODALITIES[:count] for count in range(9)]
    trainable = [row["trainable"] for row in rows[3:12]]
    assert trainable[0] == 0
    assert trainable == sorted(set(trainable))
    assert [list(row["by_type"]) for row in rows[13:]] == [
        [kind for kind, modality in MODALITY_OF_TYPE.items() if modality == name] for name in MODALITIES[1:]
    ]


def test_the_report_is_one_file_with_the_table_and_examples(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    places = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", html)
    assert places
    assert all(place.startswith("data:image/png;base64,") for place in places)
    assert "<td>+ thermal = all</td>" in html
    assert html.count('class="card"') >= 9


def test_the_picture_beside_an_answer_has_the_clips_colours(finished: Path) -> None:
    record = read_data_file(finished / "world" / "test" / "data.jsonl")[0]
    frame = read_frames(record.sources["video"], num_frames=1).frames[0]
    shown = np.asarray(Image.open(io.BytesIO(picture(record))))
    assert np.array_equal(shown, frame.permute(1, 2, 0).numpy())


def test_an_untrained_model_misses_what_is_wanted(finished: Path) -> None:
    lines = json.loads((finished / "results.json").read_text())["missed"]
    assert any(line.startswith("all modalities: ") for line in lines)


def set_row(modalities: tuple[str, ...], accuracy: float) -> Row:
    return Row("a set", "set", modalities, accuracy, {})


def test_nothing_is_missed_when_all_came_out_as_it_should() -> None:
    rows = reference_rows(dict.fromkeys(CHOICES_OF_TYPE, 0.25))
    most = rows[2].accuracy or 0.0
    shuffled = Row("all, depth shuffled", "shuffled", ("depth",), None, {"nearest": 0.36}, {"nearest": 100})
    rows = [*rows, set_row((), 0.1), set_row(("video",), most), set_row(MODALITIES, 0.95), shuffled]
    assert list(missed(rows, DemoSettings())) == []


def test_each_miss_is_a_sentence_with_its_numbers() -> None:
    rows = reference_rows(dict.fromkeys(CHOICES_OF_TYPE, 0.25))
    shuffled = Row("all, depth shuffled", "shuffled", ("depth",), None, {"nearest": 0.9}, {"nearest": 100})
    rows = [*rows, set_row((), 0.1), set_row(("video",), 0.9), set_row(MODALITIES, 0.85), shuffled]
    assert list(missed(rows, DemoSettings())) == [
        "all modalities: 85.0% on unseen clips, at least 90% wanted.",
        "video alone: 90.0%, between 32.1% and 47.1% wanted (it can give 42.1%).",
        "all, depth shuffled: 'nearest' is answered right in 90.0%, at most 47.5% wanted (chance is 33.3%, 100 "
        "questions).",
    ]


def test_chance_is_one_over_the_number_of_answers() -> None:
    chance, majority, rgb = reference_rows(dict.fromkeys(CHOICES_OF_TYPE, 0.25))
    assert chance.by_type["hottest"] == pytest.approx(1 / 3)
    assert majority.accuracy == 0.25
    assert (rgb.by_type["color"], rgb.by_type["hottest"]) == (1.0, pytest.approx(1 / 3))


def test_the_table_leaves_empty_what_was_not_asked() -> None:
    header, row = cells([Row("x", "shuffled", ("depth",), None, {"nearest": 0.5})])
    assert dict(zip(header, row, strict=True))["nearest"] == "50.0"
    assert row[1] == ""
    assert row[-3:] == ["", "", ""]


def test_training_sees_every_caption_and_some_questions_of_every_clip(finished: Path) -> None:
    world = finished / "world" / "train"
    summary = WorldSummary(world / "data.jsonl", world / "captions.jsonl", 4, 36, {}, {})
    for captions, count, wanted in ((True, 2, 4 * 3), (False, 1, 4), (True, 99, 4 * 10)):
        settings = DemoSettings(captions=captions, questions_per_clip=count)
        records = demo.training_records(summary, settings, MODALITIES)
        assert len(records) == wanted
        assert len({record.id for record in records}) == wanted
        assert records == demo.training_records(summary, settings, MODALITIES)


def test_an_earlier_demo_is_replaced(finished: Path) -> None:
    demo_folder.take_over(finished, {"seed": 5})
    assert {path.name for path in finished.iterdir()} == {"demo.json", "report.html", "results.json"}
    assert json.loads((finished / "demo.json").read_text())["seed"] == 5


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(
    tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["demo", "--out", str(out), "--clips", "2", "--backbone", str(tiny_folder), "--processes", "2"]
    assert main(words) == verb.FINDINGS
    said = capfd.readouterr()
    assert said.out.count("question alone, model") == 1
    assert said.err.splitlines()[-1] == "crema: an accuracy is not as it should be; the output states which."
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["reference"] * 3 + ["set"] * 9 + ["shuffled"] * 8
    counts = [len(file.read_text().splitlines()) for file in (out / "predictions").glob("*.jsonl")]
    assert set(counts) == {18}
    assert (out / "model" / "complete").exists()


@pytest.mark.parametrize(
    ("cores", "inside", "gpu", "wanted"),
    [(8, "1", False, 2), (1, "1", False, 1), (8, "2", False, 1), (8, "1", True, 1)],
)
def test_the_usual_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, cores: int, inside: str, gpu: bool, wanted: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: gpu)
    monkeypatch.setenv("WORLD_SIZE", inside)
    assert verb.usual_processes() == wanted
