"""Small made-up files in the exact official layout of every data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_json(root: Path, path: str, content: Any) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(content), encoding="utf-8")


def write_lines(root: Path, path: str, *lines: Any) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def touch(root: Path, *paths: str) -> None:
    """Make empty files, or folders for paths that end in a slash."""
    for path in paths:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(b"")


def write_clip(place: Path, *, num_frames: int = 20, rate: int = 10, sound_s: float | None = None) -> Path:
    """Write a small clip, with a sound track when `sound_s` is given."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(place), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        track = container.add_stream("aac", rate=16_000, layout="mono") if sound_s is not None else None
        for number in range(num_frames):
            picture = np.full((32, 32, 3), number * 10 % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        if track is not None and sound_s is not None:
            wave = np.sin(np.arange(int(16_000 * sound_s), dtype=np.float32) * 0.1)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return place


def sqa3d(root: Path) -> None:
    base = "sqa_task/balanced/v1_balanced"
    asked = {
        "scene_id": "scene0380_00",
        "situation": "I am sitting on the bed. ",
        "alternative_situation": ["Sitting on a bed.", "On the bed."],
        "question": "What is in front of me?",
        "question_id": 220602000000,
    }
    answered = {
        "scene_id": "scene0380_00",
        "question_type": "N/A",
        "answer_type": "other",
        "question_id": 220602000000,
        "answers": [{"answer": "desk", "answer_confidence": "yes", "answer_id": 1}],
        "rotation": {"_x": 0, "_y": 0, "_z": -0.9, "_w": 0.1},
        "position": {"x": -0.9, "y": 1.5, "z": 0},
    }
    write_json(root, f"{base}_questions_train_scannetv2.json", {"info": {}, "questions": [asked]})
    write_json(root, f"{base}_sqa_annotations_train_scannetv2.json", {"info": {}, "annotations": [answered]})
    touch(root, "video/scene0380_00.mp4", "scans/scene0380_00/scene0380_00_vh_clean_2.ply", "depth/scene0380_00/")


def music_avqa(root: Path) -> None:
    entry = {
        "video_id": "00000028",
        "question_id": 30,
        "type": '["Audio-Visual", "Existential"]',
        "question_content": "Is the <Object> in the video always playing?",
        "templ_values": '["ukulele"]',
        "question_deleted": 0,
        "anser": "yes",
    }
    plain = entry | {
        "question_id": 31,
        "type": '["Audio", "Counting"]',
        "question_content": "How many instruments sound?",
        "templ_values": "[]",
        "anser": "more_than_ten",
    }
    write_json(root, "data/json_update/avqa-test.json", [entry, plain])
    touch(root, "videos/00000028.mp4")


def nextqa(root: Path) -> None:
    write_json(root, "dataset/nextqa/map_vid_vidorID.json", {"4010069381": "1164/4010069381"})
    head = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    row = '4010069381,369,640,480,"how do the two man play, the instrument",0,6,CH,roll the handle,tap,strum,hit,pat\n'
    other = "4010069381,369,640,480,what happened before he sat,2,7,TP,a,b,c,d,e\n"
    place = root / "dataset/nextqa/val.csv"
    place.write_text(head + row + other, encoding="utf-8")
    touch(root, "NExTVideo/1164/4010069381.mp4", "depth/4010069381/")


def touchqa(root: Path) -> None:
    entry = {
        "start": 5,
        "end": 15,
        "video_id": "20220601_182052",
        "question_id": 3,
        "answer": "wood",
        "question": "What material is the person touching?",
    }
    write_json(root, "touch_val.json", [entry])
    for name in ("video", "gelsight"):
        write_clip(root / "dataset" / "20220601_182052" / f"{name}.mp4")


def thermalqa(root: Path) -> None:
    entry = {
        "start": 1.849,
        "video_id": "20220622_10_split1",
        "question_id": 149,
        "answer": "touch phone",
        "question": "What might have happened before this video?",
    }
    write_json(root, "thermalqa_val.json", [entry])
    touch(root, *(f"Thermal-IM/20220622_10_split1/{name}.mp4" for name in ("RGBD_RGB", "RGBT_T")))


def perception_test(root: Path) -> None:
    def video(name: str) -> dict[str, Any]:
        question = {
            "id": 0,
            "question": "What letters did the person type?",
            "options": ["ab", "cd", "ef"],
            "answer_id": 1,
            "area": "semantics",
            "reasoning": "descriptive",
            "tag": ["language"],
        }
        return {
            "metadata": {"video_id": name, "split": "valid", "num_frames": 300, "frame_rate": 30.0},
            "mc_question": [question],
        }

    write_json(root, "mc_question_valid.json", {name: video(name) for name in ("video_1", "video_2")})
    write_json(root, "cut_frame_mapping_valid.json", {"video_1": 60, "video_2": -1})
    touch(root, "videos/video_1.mp4", "videos/video_2.mp4")


def vggsound(root: Path) -> None:
    rows = '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"playing violin, fiddle",train\n'
    (root / "vggsound.csv").write_text(rows, encoding="utf-8")
    touch(root, "videos/---g-f_I2yQ_000001.mp4")


def avsd(root: Path) -> None:
    turns = [{"question": "Who is there?", "answer": "One man."}, {"question": "Does he speak?", "answer": "No."}]
    write_json(root, "avsd_train.json", {"AO8RW": {"data": turns, "caption": "c", "summary": "s"}})
    write_json(
        root,
        "mock_test_set4DSTC10-AVSD_from_DSTC7_singref.json",
        {"type": "", "dialogs": [{"image_id": "7UPGT", "dialog": turns, "caption": "c", "summary": "s"}]},
    )
    touch(root, "Charades_v1_480/AO8RW.mp4", "Charades_vu17_test_480/7UPGT.mp4")


def avqa(root: Path) -> None:
    entry = {
        "id": 183,
        "video_name": "-HG3Omg_89c_000030",
        "video_id": 341,
        "question_text": "What happened in the video?",
        "multi_choice": ["motorboat", "Yacht consignment", "Sailboat set sail", "Consignment car"],
        "answer": 1,
        "question_relation": "View",
        "question_type": "Happening",
    }
    write_json(root, "val_qa.json", [entry])
    touch(root, "videos/-HG3Omg_89c_000030.mp4")


def scanqa(root: Path) -> None:
    entry = {
        "answers": ["brown cabinet with tv sitting in it", "left of desk chair"],
        "object_ids": [8],
        "object_names": ["cabinet"],
        "question": "what is under the tv?",
        "question_id": "val-scene0011-0",
        "scene_id": "scene0011_00",
    }
    write_json(root, "qa/ScanQA_v1.0_val.json", [entry])
    touch(root, "scans/scene0011_00/scene0011_00_vh_clean_2.ply")


def egoexo4d(root: Path) -> None:
    base = "takes/iiith_cooking_01_1/frame_aligned_videos"
    entry = {
        "take_uid": "02715c86",
        "proficiency_score": "Early Expert",
        "scenario_name": "Cooking",
        "video_paths": {"ego": f"{base}/aria01_214-1.mp4", "exo1": f"{base}/cam01.mp4"},
    }
    write_json(root, "annotations/proficiency_demonstrator_val.json", {"annotations": [entry]})
    touch(root, f"{base}/aria01_214-1.mp4")


def videomme(root: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    row = {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": "https://www.youtube.com/watch?v=fFjv93ACGo8",
        "videoID": "fFjv93ACGo8",
        "question_id": "001-1",
        "task_type": "Counting Problem",
        "question": "How many?",
        "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. The same."],
        "answer": "C",
    }
    place = root / "videomme" / "test-00000-of-00001.parquet"
    place.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist([row]), place)
    touch(root, "data/fFjv93ACGo8.mp4")


def mvbench(root: Path) -> None:
    from crema_benchmarks.mvbench import FOLDERS

    for task, folder in FOLDERS.items():
        entry: dict[str, Any] = {"video": "a.mp4", "question": f"{task}?", "candidates": ["x", "y"], "answer": "y"}
        if task == "episodic_reasoning":
            entry |= {"video": "met_s03e01_seg02_clip_07", "start": 1.0, "end": 2.0}
            touch(root, *(f"video/{folder}/{entry['video']}/{number:05d}.jpg" for number in range(1, 13)))
        else:
            touch(root, f"video/{folder}/a.mp4")
        if task == "action_sequence":
            entry |= {"start": 5.3, "end": 11.9}
        elif task in ("action_prediction", "object_interaction", "action_localization"):
            entry |= {"start": 0.0, "end": 4.0}
        write_json(root, f"json/{task}.json", [entry])


def mlvu(root: Path) -> None:
    from crema_benchmarks.mlvu import TASKS

    for task in TASKS:
        entry = {
            "video": "movie101_66.mp4",
            "duration": 480.0,
            "question": "What color?",
            "candidates": ["Yellow", "Red", "Green", "Blue"],
            "answer": "Yellow",
            "question_type": task.partition("_")[2],
        }
        write_json(root, f"json/{task}.json", [entry])
        touch(root, f"video/{task}/movie101_66.mp4")


def zero_shot(root: Path, clip: str, video: str) -> None:
    write_json(root, "test_q.json", [{"video_name": video, "question_id": 0, "question": "what is he doing?"}])
    write_json(root, "test_a.json", [{"question_id": 0, "answer": "cook", "type": 0}])
    touch(root, clip)


def vlep(root: Path) -> None:
    entry = {
        "example_id": 21411,
        "vid_name": "OO9kSxcT9Rg_subs_012_00:13:00_00:14:00_ep",
        "ts": [10.54, 13.55],
        "events": ["The customer eats the food.", "The customer takes the tray."],
        "answer": 1,
        "split": "dev",
    }
    write_lines(root, "data/vlep_dev_release.jsonl", entry)
    touch(root, f"videos/{entry['vid_name']}.mp4")


def tvqa(root: Path) -> None:
    base = {
        "a0": "A martini", "a1": "A glass of water", "a2": "A cup", "a3": "Nothing", "a4": "A beer",
        "answer_idx": 1, "q": "What is he holding?", "qid": 7, "ts": "1.21-2.4",
    }  # fmt: skip
    grey = base | {"vid_name": "grey_s03e20_seg02_clip_14", "show_name": "Grey's Anatomy"}
    bang = base | {"qid": 8, "vid_name": "s01e01_seg01_clip_00", "show_name": "The Big Bang Theory", "ts": "nan-nan"}
    write_lines(root, "tvqa_qa_release/tvqa_val.jsonl", grey, bang)
    for folder in (f"grey_frames/{grey['vid_name']}", f"bbt_frames/{bang['vid_name']}"):
        touch(root, *(f"frames_hq/{folder}/{number:05d}.jpg" for number in range(1, 13)))


def ssv2(root: Path) -> None:
    classes = [f"Doing {number} with something" for number in range(9)]
    write_json(root, "something-something-v2-labels.json", {name: str(i) for i, name in enumerate(classes)})
    entry = {
        "id": "74225",
        "label": "doing 3 with a cup",
        "template": "Doing 3 with [something]",
        "placeholders": ["a cup"],
    }
    other = {
        "id": "9",
        "label": "doing 5 with a pen",
        "template": "Doing 5 with [something]",
        "placeholders": ["a pen"],
    }
    write_json(root, "something-something-v2-validation.json", [entry, other])
    touch(root, "20bn-something-something-v2/74225.webm", "20bn-something-something-v2/9.webm")


def egoschema(root: Path) -> None:
    """Two questions, one of them with a public answer."""
    name = "0074f737-11cb-497d-8d07-77c3a8127391"
    aims = ("cooking", "doing laundry", "cleaning the kitchen", "cleaning dishes", "cleaning the bathroom")
    entry = {
        "q_uid": name,
        "google_drive_id": "1ajAxNd",
        "question": "Taking into account all the actions, what is the aim?",
        **{f"option {number}": f"C is {aim}." for number, aim in enumerate(aims)},
    }
    write_json(root, "questions.json", [entry | {"q_uid": "without-answer"}, entry])
    write_json(root, "subset_answers.json", {name: 3})
    touch(root, f"videos/{name}.mp4")


def audiocaps_qa(root: Path) -> None:
    head = "audiocap_id,youtube_id,start_time,caption,question,answer\n"
    rows = (
        '91139,r1nicOVtvkQ,130,A woman talks,"What is the woman doing, over the noise?",talking\n'
        "91139,r1nicOVtvkQ,130,A woman talks,Who talks?,a woman\n"
        "58146,pFyVIxNQ3EM,30.0,An engine rumbles,What rumbles?,an engine\n"
    )
    (root / "audio_qa_final_train.csv").write_text(head + rows, encoding="utf-8")
    touch(root, "audio/train/r1nicOVtvkQ_130.flac", "audio/train/pFyVIxNQ3EM_30.wav")


def three_d_llm(root: Path) -> None:
    """Four entries: one room is no room of ScanNet, one has an empty answer."""
    entries = [
        {"scene_id": 1013, "question": "What is next to the sofa?", "answers": ["A lamp.", "There is a lamp."]},
        {"scene_id": 7, "question": "What is here?", "answers": ["A desk."]},
        {
            "scene_id": 1013,
            "question": "Human: I am tired. Robot: There is a bed. Human: Where?",
            "answers": ["By the window."],
        },
        {"scene_id": 1013, "question": "What is there?", "answers": [""]},
    ]
    write_json(root, "data_part2_scene_v3.json", entries)
    write_json(root, "final_scene_map_dict_scan_v3.json", {"1013": "scene0411_00"})
    touch(root, "scans/scene0411_00/scene0411_00_vh_clean_2.ply")
