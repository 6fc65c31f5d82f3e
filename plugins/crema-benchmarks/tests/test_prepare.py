"""What can go wrong between official files and a data file; nothing is ever half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.datasets import prepare as room
from crema_core.datasets.prepare import prepare
from crema_core.errors import DatasetError
from tests.support import official_datasets as official

NEXTQA = "https://github.com/doc-doc/NExT-QA (annotations MIT; videos of VidOR (YFCC100M))"


def refused(**options: object) -> str:
    with pytest.raises(DatasetError) as error:
        prepare(**{"name": "nextqa", "split": "val", **options})  # type: ignore[arg-type]
    return str(error.value)


def test_all_missing_annotations_are_named_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert refused(root=tmp_path, out=out) == (
        f"2 annotation files of nextqa are missing in '{tmp_path}'. Nothing was written:\n"
        "- dataset/nextqa/val.csv\n"
        "- dataset/nextqa/map_vid_vidorID.json\n"
        f"Get them from {NEXTQA}."
    )
    assert not out.exists()


def test_all_missing_media_are_named_at_once(tmp_path: Path) -> None:
    official.nextqa(tmp_path)
    (tmp_path / "NExTVideo/1164/4010069381.mp4").unlink()
    (tmp_path / "depth/4010069381").rmdir()
    out = tmp_path / "out.jsonl"
    assert refused(root=tmp_path, out=out) == (
        f"2 media files of nextqa are missing in '{tmp_path}'. Nothing was written:\n"
        "- NExTVideo/1164/4010069381.mp4\n"
        "- depth/4010069381\n"
        f"Get them from {NEXTQA}."
    )
    assert not out.exists()


def test_a_long_list_of_missing_files_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official.nextqa(tmp_path)
    (tmp_path / "NExTVideo/1164/4010069381.mp4").unlink()
    (tmp_path / "depth/4010069381").rmdir()
    monkeypatch.setattr(room, "NUM_SHOWN", 1)
    assert refused(root=tmp_path, out=tmp_path / "out.jsonl").splitlines()[1:3] == [
        "- NExTVideo/1164/4010069381.mp4",
        "- and 1 more",
    ]


def test_questions_with_missing_media_can_be_left_out(tmp_path: Path) -> None:
    official.perception_test(tmp_path)
    (tmp_path / "videos/video_1.mp4").unlink()
    out = tmp_path / "out.jsonl"
    done = prepare("perception-test", root=tmp_path, split="valid", out=out, missing="skip")
    assert (done.num_lines, done.num_skipped) == (1, 1)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["video_2_0"]
    (tmp_path / "videos/video_2.mp4").unlink()
    with pytest.raises(
        DatasetError,
        match=r"2 media files of perception-test are missing in .*, so no question is left\. Nothing was written",
    ):
        prepare("perception-test", root=tmp_path, split="valid", out=out, missing="skip", replace=True)


def test_modalities_without_a_folder_are_left_out_and_said(tmp_path: Path) -> None:
    official.nextqa(tmp_path)
    done = prepare("nextqa", root=tmp_path, split="val", out=tmp_path / "out.jsonl")
    assert done.modalities == ("video", "depth")
    assert done.left_out == {"flow": "no folder flow", "normals": "no folder normals"}


def test_modalities_that_are_not_installed_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "installed_names", lambda: ("video",))
    official.music_avqa(tmp_path)
    done = prepare("music-avqa", root=tmp_path, split="test", out=tmp_path / "out.jsonl")
    assert (done.modalities, done.left_out["audio"]) == (("video",), "not installed")


def test_modalities_asked_for_must_be_there(tmp_path: Path) -> None:
    official.nextqa(tmp_path)
    out = tmp_path / "out.jsonl"
    assert "- flow/4010069381\n" in refused(root=tmp_path, out=out, modalities=["video", "flow"])
    assert refused(root=tmp_path, out=out, modalities=["vidoe"]) == (
        "nextqa has no sources of 'vidoe'. It has: video, flow, depth, normals. Did you mean 'video'? Name some of "
        "these."
    )


def test_a_folder_without_any_media_is_refused(tmp_path: Path) -> None:
    official.avqa(tmp_path)
    (tmp_path / "videos/-HG3Omg_89c_000030.mp4").unlink()
    (tmp_path / "videos").rmdir()
    assert refused(name="avqa", root=tmp_path, out=tmp_path / "out.jsonl") == (
        f"'{tmp_path}' has no media of avqa. Expected there: video: videos/<video>.mp4; audio: videos/<video>.mp4. "
        "Nothing was written. Put the media there, or name the modalities to take with --modalities to see which files "
        "are missing."
    )


def test_unknown_names_and_splits_are_refused(tmp_path: Path) -> None:
    assert refused(name="nextqq", root=tmp_path, out=tmp_path / "o").endswith(". Did you mean 'nextqa'?")
    assert refused(root=tmp_path, split="vall", out=tmp_path / "o") == (
        "nextqa has no split 'vall' with public answers. Splits: train, val, test. Did you mean 'val'? Name one of "
        "these."
    )


def test_an_existing_file_is_only_replaced_when_asked(tmp_path: Path) -> None:
    official.nextqa(tmp_path)
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    assert refused(root=tmp_path, out=out) == (
        f"'{out}' exists. Nothing was written. Name another file, or add --replace."
    )
    assert out.read_text() == "mine"
    assert prepare("nextqa", root=tmp_path, split="val", out=out, replace=True).num_lines == 2


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (
            "val_qa.json",
            '[{"id": 1}]',
            "Entry 1 of val_qa.json has no 'question_text'; it has: id. This is not the official layout. Download the "
            "file again from the official page.",
        ),
        (
            "val_qa.json",
            '{"id": 1}',
            "Val_qa.json is dict instead of a list. This is not the official layout. Download the file again from the "
            "official page.",
        ),
        (
            "val_qa.json",
            "[1]",
            "Entry 1 of val_qa.json is int instead of an object. This is not the official layout. Download the file "
            "again from the official page.",
        ),
        (
            "val_qa.json",
            "[{",
            "Val_qa.json is not JSON (Expecting property name enclosed in double quotes at column 3). This is not "
            "the official layout. Download the file again from the official page.",
        ),
        (
            "val_qa.json",
            '[{"id": 1, "question_text": "?", "multi_choice": ["a"], "answer": 1}]',
            "Entry 1 of val_qa.json: 'answer' is 1, not the index of one of its multi_choice. This is not the official "
            "layout. Download the file again from the official page.",
        ),
    ],
)
def test_what_is_not_the_official_layout_is_named(tmp_path: Path, path: str, content: str, message: str) -> None:
    official.avqa(tmp_path)
    (tmp_path / path).write_text(content)
    assert refused(name="avqa", root=tmp_path, out=tmp_path / "out.jsonl") == message


def test_unusable_questions_are_named(tmp_path: Path) -> None:
    official.mlvu(tmp_path)
    entry = {"video": "movie101_66.mp4", "question": "?", "candidates": ["a", "b"], "answer": "c"}
    official.write_json(tmp_path, "json/1_plotQA.json", [entry])
    assert refused(name="mlvu", split="dev", root=tmp_path, out=tmp_path / "out.jsonl") == (
        "1 problem in the annotations of mlvu. Nothing was written:\n"
        "- 1_plotQA_1: the answer 'c' is none of the choices\n"
        "Download them again from https://huggingface.co/datasets/MLVU/MVLU."
    )


def test_paths_are_relative_to_the_data_file(tmp_path: Path) -> None:
    official.vlep(tmp_path / "vlep")
    out = tmp_path / "data" / "vlep.jsonl"
    prepare("vlep", root=tmp_path / "vlep", split="dev", out=out)
    assert json.loads(out.read_text())["video"].startswith("../vlep/videos/OO9kSxcT9Rg")


def test_a_clip_that_cannot_be_read_where_its_frame_rate_is_needed_is_named(tmp_path: Path) -> None:
    official.touchqa(tmp_path)
    (tmp_path / "dataset/20220601_182052/video.mp4").write_bytes(b"nothing")
    assert refused(name="touchqa", root=tmp_path, out=tmp_path / "out.jsonl") == (
        "'dataset/20220601_182052/video.mp4' cannot be read, so its frame numbers cannot be turned into seconds. It "
        "should be a clip. Download it again."
    )
