"""Each data set, from files in its official layout to lines; expected values are written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crema_core.data.data_file import read_data_file
from crema_core.datasets.prepare import find_dataset, list_datasets, prepare
from crema_core.errors import DatasetError
from tests.support import official_datasets as official

Write = Callable[[Path], None]

CASES: dict[str, tuple[Write, str, list[dict[str, Any]]]] = {
    "sqa3d": (
        official.sqa3d,
        "train",
        [
            {
                "id": "220602000000",
                "question": "I am sitting on the bed. Question: What is in front of me?",
                "answer": "desk",
                "type": "What",
                "dataset": "sqa3d",
                "video": "data/video/scene0380_00.mp4",
                "pointcloud": "data/scans/scene0380_00/scene0380_00_vh_clean_2.ply",
                "depth": "data/depth/scene0380_00",
            }
        ],
    ),
    "music-avqa": (
        official.music_avqa,
        "test",
        [
            {
                "id": "30",
                "question": "Is the ukulele in the video always playing?",
                "answer": "yes",
                "type": "Audio-Visual/Existential",
                "dataset": "music-avqa",
                "video": "data/videos/00000028.mp4",
                "audio": "data/videos/00000028.mp4",
            },
            {
                "id": "31",
                "question": "How many instruments sound?",
                "answer": "more than ten",
                "type": "Audio/Counting",
                "dataset": "music-avqa",
                "video": "data/videos/00000028.mp4",
                "audio": "data/videos/00000028.mp4",
            },
        ],
    ),
    "nextqa": (
        official.nextqa,
        "val",
        [
            {
                "id": "4010069381_6",
                "question": "how do the two man play, the instrument",
                "answer": "roll the handle",
                "choices": ["roll the handle", "tap", "strum", "hit", "pat"],
                "type": "CH",
                "dataset": "nextqa",
                "video": "data/NExTVideo/1164/4010069381.mp4",
                "depth": "data/depth/4010069381",
            },
            {
                "id": "4010069381_7",
                "question": "what happened before he sat",
                "answer": "c",
                "choices": ["a", "b", "c", "d", "e"],
                "type": "TN",
                "dataset": "nextqa",
                "video": "data/NExTVideo/1164/4010069381.mp4",
                "depth": "data/depth/4010069381",
            },
        ],
    ),
    "touchqa": (
        official.touchqa,
        "val",
        [
            {
                "id": "3",
                "question": "What material is the person touching?",
                "answer": "wood",
                "dataset": "touchqa",
                "video": "data/dataset/20220601_182052/video.mp4#t=0.5,1.5",
                "touch": "data/dataset/20220601_182052/gelsight.mp4#t=0.5,1.5",
            }
        ],
    ),
    "thermalqa": (
        official.thermalqa,
        "val",
        [
            {
                "id": "149",
                "question": "What might have happened before this video?",
                "answer": "touch phone",
                "dataset": "thermalqa",
                "video": "data/Thermal-IM/20220622_10_split1/RGBD_RGB.mp4#t=1.849",
                "thermal": "data/Thermal-IM/20220622_10_split1/RGBT_T.mp4#t=1.849",
            }
        ],
    ),
    "perception-test": (
        official.perception_test,
        "valid",
        [
            {
                "id": f"{video}_0",
                "question": "What letters did the person type?",
                "answer": "cd",
                "choices": ["ab", "cd", "ef"],
                "type": "semantics",
                "dataset": "perception-test",
                "video": f"data/videos/{video}.mp4{part}",
                "audio": f"data/videos/{video}.mp4{part}",
            }
            for video, part in (("video_1", "#t=,2"), ("video_2", ""))
        ],
    ),
    "vggsound": (
        official.vggsound,
        "test",
        [
            {
                "id": "---g-f_I2yQ_000001",
                "question": "Which sound can be heard in the video?",
                "answer": "people marching",
                "dataset": "vggsound",
                "video": "data/videos/---g-f_I2yQ_000001.mp4",
                "audio": "data/videos/---g-f_I2yQ_000001.mp4",
            }
        ],
    ),
    "avsd": (
        official.avsd,
        "test",
        [
            {
                "id": "7UPGT_2",
                "question": "Question: Who is there? Answer: One man. Question: Does he speak?",
                "answer": "No.",
                "dataset": "avsd",
                "video": "data/Charades_vu17_test_480/7UPGT.mp4",
                "audio": "data/Charades_vu17_test_480/7UPGT.mp4",
            }
        ],
    ),
    "avqa": (
        official.avqa,
        "val",
        [
            {
                "id": "183",
                "question": "What happened in the video?",
                "answer": "Yacht consignment",
                "choices": ["motorboat", "Yacht consignment", "Sailboat set sail", "Consignment car"],
                "type": "View",
                "dataset": "avqa",
                "video": "data/videos/-HG3Omg_89c_000030.mp4",
                "audio": "data/videos/-HG3Omg_89c_000030.mp4",
            }
        ],
    ),
    "scanqa": (
        official.scanqa,
        "val",
        [
            {
                "id": "val-scene0011-0",
                "question": "what is under the tv?",
                "answer": "brown cabinet with tv sitting in it",
                "answers": ["left of desk chair"],
                "type": "What",
                "dataset": "scanqa",
                "pointcloud": "data/scans/scene0011_00/scene0011_00_vh_clean_2.ply",
            }
        ],
    ),
    "egoexo4d-proficiency": (
        official.egoexo4d,
        "val",
        [
            {
                "id": "02715c86",
                "question": "How skilled is the person at this activity?",
                "answer": "Early Expert",
                "choices": ["Novice", "Early Expert", "Intermediate Expert", "Late Expert"],
                "type": "Cooking",
                "dataset": "egoexo4d-proficiency",
                "video": "data/takes/iiith_cooking_01_1/frame_aligned_videos/aria01_214-1.mp4",
            }
        ],
    ),
    "videomme": (
        official.videomme,
        "test",
        [
            {
                "id": "001-1",
                "question": "How many?",
                "answer": "Berries.",
                "choices": ["Apples.", "Candles.", "Berries.", "The same."],
                "type": "short",
                "dataset": "videomme",
                "video": "data/data/fFjv93ACGo8.mp4",
                "audio": "data/data/fFjv93ACGo8.mp4",
            }
        ],
    ),
    "msvd-qa": (
        partial(official.zero_shot, clip="videos/-4wsuPCjDBc_5_15.avi", video="-4wsuPCjDBc_5_15"),
        "test",
        [
            {
                "id": "0",
                "question": "what is he doing?",
                "answer": "cook",
                "type": "0",
                "dataset": "msvd-qa",
                "video": "data/videos/-4wsuPCjDBc_5_15.avi",
            }
        ],
    ),
    "msrvtt-qa": (
        partial(official.zero_shot, clip="videos/all/video7010.mp4", video="video7010"),
        "test",
        [
            {
                "id": "0",
                "question": "what is he doing?",
                "answer": "cook",
                "type": "0",
                "dataset": "msrvtt-qa",
                "video": "data/videos/all/video7010.mp4",
            }
        ],
    ),
    "tgif-qa": (
        partial(official.zero_shot, clip="mp4/tumblr_m1.mp4", video="tumblr_m1"),
        "test",
        [
            {
                "id": "0",
                "question": "what is he doing?",
                "answer": "cook",
                "type": "0",
                "dataset": "tgif-qa",
                "video": "data/mp4/tumblr_m1.mp4",
            }
        ],
    ),
    "activitynet-qa": (
        partial(official.zero_shot, clip="all_test/v_1QIUV7WYKXg.mkv", video="1QIUV7WYKXg"),
        "test",
        [
            {
                "id": "0",
                "question": "what is he doing?",
                "answer": "cook",
                "type": "motion",
                "dataset": "activitynet-qa",
                "video": "data/all_test/v_1QIUV7WYKXg.mkv",
            }
        ],
    ),
    "egoschema": (
        official.egoschema,
        "subset",
        [
            {
                "id": "0074f737-11cb-497d-8d07-77c3a8127391",
                "question": "Taking into account all the actions, what is the aim?",
                "answer": "C is cleaning dishes.",
                "choices": [
                    "C is cooking.",
                    "C is doing laundry.",
                    "C is cleaning the kitchen.",
                    "C is cleaning dishes.",
                    "C is cleaning the bathroom.",
                ],
                "dataset": "egoschema",
                "video": "data/videos/0074f737-11cb-497d-8d07-77c3a8127391.mp4",
            }
        ],
    ),
    "audiocaps-qa": (
        official.audiocaps_qa,
        "train",
        [
            {
                "id": "r1nicOVtvkQ_130_1",
                "question": "What is the woman doing, over the noise?",
                "answer": "talking",
                "dataset": "audiocaps-qa",
                "audio": "data/audio/train/r1nicOVtvkQ_130.flac",
            },
            {
                "id": "r1nicOVtvkQ_130_2",
                "question": "Who talks?",
                "answer": "a woman",
                "dataset": "audiocaps-qa",
                "audio": "data/audio/train/r1nicOVtvkQ_130.flac",
            },
            {
                "id": "pFyVIxNQ3EM_30_3",
                "question": "What rumbles?",
                "answer": "an engine",
                "dataset": "audiocaps-qa",
                "audio": "data/audio/train/pFyVIxNQ3EM_30.wav",
            },
        ],
    ),
    "three-d-llm": (
        official.three_d_llm,
        "train",
        [
            {
                "id": "1",
                "question": "What is next to the sofa?",
                "answer": "A lamp.",
                "answers": ["There is a lamp."],
                "dataset": "three-d-llm",
                "pointcloud": "data/scans/scene0411_00/scene0411_00_vh_clean_2.ply",
            },
            {
                "id": "3",
                "question": "Human: I am tired. Robot: There is a bed. Human: Where?",
                "answer": "By the window.",
                "dataset": "three-d-llm",
                "pointcloud": "data/scans/scene0411_00/scene0411_00_vh_clean_2.ply",
            },
        ],
    ),
    "ssv2-oe": (
        official.ssv2,
        "validation",
        [
            {
                "id": "74225",
                "question": "How is the object in the video being interacted with?",
                "answer": "doing 3 with a cup",
                "dataset": "ssv2-oe",
                "video": "data/20bn-something-something-v2/74225.webm",
            },
            {
                "id": "9",
                "question": "How is the object in the video being interacted with?",
                "answer": "doing 5 with a pen",
                "dataset": "ssv2-oe",
                "video": "data/20bn-something-something-v2/9.webm",
            },
        ],
    ),
    "vlep": (
        official.vlep,
        "dev",
        [
            {
                "id": "21411",
                "question": "Which event is more likely to happen next?",
                "answer": "The customer takes the tray.",
                "choices": ["The customer eats the food.", "The customer takes the tray."],
                "dataset": "vlep",
                "video": "data/videos/OO9kSxcT9Rg_subs_012_00:13:00_00:14:00_ep.mp4#t=10.54,13.55",
                "audio": "data/videos/OO9kSxcT9Rg_subs_012_00:13:00_00:14:00_ep.mp4#t=10.54,13.55",
            }
        ],
    ),
    "tvqa": (
        official.tvqa,
        "val",
        [
            {
                "id": "7",
                "question": "What is he holding?",
                "answer": "A glass of water",
                "choices": ["A martini", "A glass of water", "A cup", "Nothing", "A beer"],
                "type": "Grey's Anatomy",
                "dataset": "tvqa",
                # Seconds 1.21 to 2.4 at three pictures a second: those shown at 1, 1.33, ... 2.33 s.
                "video": [f"data/frames_hq/grey_frames/grey_s03e20_seg02_clip_14/{n:05d}.jpg" for n in range(4, 9)],
            },
            {
                "id": "8",
                "question": "What is he holding?",
                "answer": "A glass of water",
                "choices": ["A martini", "A glass of water", "A cup", "Nothing", "A beer"],
                "type": "The Big Bang Theory",
                "dataset": "tvqa",
                "video": [f"data/frames_hq/bbt_frames/s01e01_seg01_clip_00/{n:05d}.jpg" for n in range(1, 13)],
            },
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_official_files_become_these_lines(name: str, tmp_path: Path) -> None:
    write, split, expected = CASES[name]
    if name == "videomme":
        pytest.importorskip("pyarrow")
    root = tmp_path / "data"
    root.mkdir()
    write(root)
    out = tmp_path / f"{name}.jsonl"
    done = prepare(name, root=root, split=split, out=out)
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == expected
    assert (done.num_lines, done.num_skipped) == (len(expected), 0)
    assert len(read_data_file(out)) == len(expected)


def test_every_installed_data_set_has_a_case_here() -> None:
    own = {record.name for record in list_datasets() if record.distribution == "crema-benchmarks"}
    assert own == {*CASES, "mvbench", "mlvu", "ssv2-mcq", "ssv2-temporal"}
    assert find_dataset("crema-benchmarks:nextqa").name == "nextqa"


def test_avsd_trains_on_every_turn(tmp_path: Path) -> None:
    official.avsd(tmp_path)
    prepare("avsd", root=tmp_path, split="train", out=tmp_path / "out.jsonl")
    assert [(record.id, record.question, record.answer) for record in read_data_file(tmp_path / "out.jsonl")] == [
        ("AO8RW_1", "Question: Who is there?", "One man."),
        ("AO8RW_2", "Question: Who is there? Answer: One man. Question: Does he speak?", "No."),
    ]


def test_mvbench_takes_parts_of_clips_and_pictures_where_its_table_says_so(tmp_path: Path) -> None:
    official.mvbench(tmp_path)
    prepare("mvbench", root=tmp_path, split="test", out=tmp_path / "out.jsonl")
    records = {record.type: record for record in read_data_file(tmp_path / "out.jsonl")}
    assert len(records) == 20
    assert records["action_sequence"].sources["video"].endswith("star/Charades_v1_480/a.mp4#t=5.3,11.9")  # type: ignore[union-attr]
    assert records["moving_count"].sources["video"].endswith("clevrer/video_validation/a.mp4")  # type: ignore[union-attr]
    assert [Path(path).name for path in records["episodic_reasoning"].paths("video")] == [
        "00004.jpg", "00005.jpg", "00006.jpg", "00007.jpg",
    ]  # fmt: skip
    assert find_dataset("mvbench").average == "types"


def test_mlvu_looks_for_a_clip_in_its_tasks_folder(tmp_path: Path) -> None:
    official.mlvu(tmp_path)
    prepare("mlvu", root=tmp_path, split="dev", out=tmp_path / "out.jsonl")
    records = read_data_file(tmp_path / "out.jsonl")
    assert [record.type for record in records] == [
        "1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning",
    ]  # fmt: skip
    assert records[3].paths("video")[0].endswith("video/4_count/movie101_66.mp4")


def test_the_choices_of_ssv2_are_drawn_from_the_clips_id_alone(tmp_path: Path) -> None:
    official.ssv2(tmp_path)
    for name in ("a", "b"):
        prepare("ssv2-mcq", root=tmp_path, split="validation", out=tmp_path / f"{name}.jsonl")
    record, _ = read_data_file(tmp_path / "a.jsonl")
    assert record.answer == "Doing 3 with something"
    assert record.choices is not None
    assert len(set(record.choices)) == 5
    assert record.answer in record.choices
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_temporal_questions_are_those_of_the_named_classes_with_the_same_choices(tmp_path: Path) -> None:
    official.ssv2(tmp_path)
    official.write_json(tmp_path, "temporal-classes.json", ["Doing 5 with something"])
    for name in ("ssv2-mcq", "ssv2-temporal"):
        prepare(name, root=tmp_path, split="validation", out=tmp_path / f"{name}.jsonl")
    (record,) = read_data_file(tmp_path / "ssv2-temporal.jsonl")
    everything = {own.id: own for own in read_data_file(tmp_path / "ssv2-mcq.jsonl")}
    assert (record.id, record.answer, record.type) == ("9", "Doing 5 with something", "Doing 5 with something")
    assert record.choices == everything["9"].choices


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ["Doing 55 with something"],
            "'Doing 55 with something' of temporal-classes.json is no class of something-something-v2-labels.json. Did "
            "you mean 'Doing 5 with something'? Write the names as that file spells them.",
        ),
        (
            {},
            "temporal-classes.json holds no list of class names. Write a JSON list with names of "
            "something-something-v2-labels.json, those that count as temporal.",
        ),
    ],
)
def test_a_list_of_temporal_classes_that_names_none_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    official.ssv2(tmp_path)
    official.write_json(tmp_path, "temporal-classes.json", content)
    with pytest.raises(DatasetError) as caught:
        prepare("ssv2-temporal", root=tmp_path, split="validation", out=tmp_path / "out.jsonl")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"other": 1},
            "'other' of subset_answers.json is no question of questions.json. This is not the official layout. "
            "Download both files again from the official page.",
        ),
        (
            {"0074f737-11cb-497d-8d07-77c3a8127391": 5},
            "The answer of '0074f737-11cb-497d-8d07-77c3a8127391' in subset_answers.json is 5, not a number from 0 to "
            "4. This is not the official layout. Download the file again from the official page.",
        ),
    ],
)
def test_answers_of_egoschema_that_fit_no_question_are_refused(tmp_path: Path, answers: Any, message: str) -> None:
    official.egoschema(tmp_path)
    official.write_json(tmp_path, "subset_answers.json", answers)
    with pytest.raises(DatasetError) as caught:
        prepare("egoschema", root=tmp_path, split="subset", out=tmp_path / "out.jsonl")
    assert str(caught.value) == message


def test_a_start_of_audiocaps_that_is_no_second_is_refused(tmp_path: Path) -> None:
    official.audiocaps_qa(tmp_path)
    table = tmp_path / "audio_qa_final_train.csv"
    table.write_text(table.read_text().replace(",130,", ",soon,", 1))
    with pytest.raises(DatasetError, match=r"'start_time' is .soon., not a second"):
        prepare("audiocaps-qa", root=tmp_path, split="train", out=tmp_path / "out.jsonl")


def test_scannet_names_of_3d_llm_are_taken_as_they_are(tmp_path: Path) -> None:
    official.three_d_llm(tmp_path)
    entry = {"scene_id": "scene0411_00", "question": "What is it?", "answers": ["a desk"]}
    official.write_json(tmp_path, "data_part2_scene_v3.json", [entry])
    prepare("three-d-llm", root=tmp_path, split="train", out=tmp_path / "out.jsonl")
    (record,) = read_data_file(tmp_path / "out.jsonl")
    assert record.paths("pointcloud")[0].endswith("scans/scene0411_00/scene0411_00_vh_clean_2.ply")
