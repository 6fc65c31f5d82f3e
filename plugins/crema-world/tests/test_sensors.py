"""Every file opens with a reader that knows nothing of this package and carries what the answer says."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from crema_world import make_world
from crema_world.scene import SLOTS

COLUMNS = {"left": slice(0, 21), "middle": slice(21, 43), "right": slice(43, 64)}
THINGS = slice(28, 50)  # rows of the image with the three things, without the floor

# Eight colour names far enough apart to tell by the nearest paint.
PAINTS = {
    "red": (230, 11, 11), "orange": (255, 115, 0), "yellow": (255, 238, 13), "green": (19, 191, 26),
    "cyan": (36, 242, 242), "blue": (12, 70, 242), "purple": (164, 33, 217), "white": (255, 255, 255),
}  # fmt: skip

Clip = dict[str, str]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Clip, dict[str, Path]]]:
    """Answers by type and files by modality of 16 clips."""
    made = make_world(tmp_path_factory.mktemp("world") / "train", num_clips=16, seed=5, split="train")
    lines = [json.loads(line) for line in made.data_file.read_text().splitlines()]
    by_clip: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        by_clip.setdefault(line["video"], []).append(line)
    modalities = ("video", "audio", "depth", "flow", "normals", "pointcloud", "touch", "thermal")
    return [
        (
            {line["type"]: line["answer"] for line in mine} | {line["type"] + "?": line["question"] for line in mine},
            {modality: made.data_file.parent / mine[0][modality] for modality in modalities},
        )
        for mine in by_clip.values()
    ]


def nearest_paint(rgb: np.ndarray) -> str:
    return min(PAINTS, key=lambda name: float(np.abs(np.array(PAINTS[name]) - rgb).sum()))


def test_video_has_16_frames_at_8_per_second_in_the_colours_of_the_answers(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    captions = [
        json.loads(line)["answer"]
        for line in (clips[0][1]["video"].parents[1] / "captions.jsonl").read_text().splitlines()
    ]
    for (_, files), caption in zip(clips, captions, strict=True):
        with av.open(str(files["video"])) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate) == (64, 64, 8)
            assert stream.codec_context.name == "h264"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(frames) == 16
        pixels = frames[4].astype(float)
        for slot, said in zip(SLOTS, caption.split(" . "), strict=False):
            part = pixels[THINGS, COLUMNS[slot]].reshape(-1, 3)
            background = np.median(part, axis=0)
            vivid = part[np.argsort(np.abs(part - background).sum(1))[-20:]]
            assert nearest_paint(vivid.mean(0)) == said.split()[1]


def test_video_frames_sampled_by_the_rule_look_alike_after_decoding(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    for _, files in clips[:4]:
        with av.open(str(files["video"])) as container:
            frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
        home = [frames[index] for index in (2, 4, 6, 8, 10, 12, 14)]
        assert max(np.abs(frame - home[0]).mean() for frame in home) < 2
        assert np.abs(frames[5] - home[0]).mean() > np.abs(home[1] - home[0]).mean()


def test_audio_is_two_seconds_and_its_first_half_sounds_like_the_answer(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    for answers, files in clips:
        with wave.open(str(files["audio"]), "rb") as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(float)
        assert len(samples) == 32_000
        assert sound_in(samples[:16_000]) == answers["first_sound"]
        assert sound_in(samples[16_000:]) != answers["first_sound"]


def sound_in(samples: np.ndarray) -> str:
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / 16_000)
    share = {
        "drum": power[(hertz > 60) & (hertz < 118)].sum(),
        "whistle": power[(hertz > 2500) & (hertz < 3500)].sum(),
        "bell": power[(hertz > 820) & (hertz < 980)].sum() * 2,
        "buzz": power[(hertz >= 118) & (hertz < 600)].sum(),
    }
    return max(share, key=lambda name: float(share[name]))


def test_depth_is_in_millimetres_and_the_nearest_slot_is_the_answer(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    for answers, files in clips:
        image = Image.open(files["depth"])
        assert image.mode == "I;16"
        depth = np.array(image)
        assert 5500 < np.median(depth) < 6500
        near = {slot: int(depth[THINGS, columns].min()) for slot, columns in COLUMNS.items()}
        assert min(near, key=lambda slot: near[slot]) == answers["nearest"]
        assert 700 < min(near.values()) < 1300


def test_size_in_the_image_does_not_tell_distance() -> None:
    from crema_world.generate import draw_scenes

    things = [thing for scene in draw_scenes(num_clips=600, seed=0, split="train") for thing in scene.things]
    correlation = np.corrcoef([thing.radius for thing in things], [thing.distance_m for thing in things])[0, 1]
    assert abs(correlation) < 0.08


def test_thermal_is_kelvin_times_100_and_the_hottest_slot_is_the_answer(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    for answers, files in clips:
        image = Image.open(files["thermal"])
        assert image.mode == "I;16"
        kelvin = np.array(image) / 100
        assert 286 < np.median(kelvin) < 290
        hot = {slot: float(kelvin[THINGS, columns].max()) for slot, columns in COLUMNS.items()}
        assert max(hot, key=lambda slot: hot[slot]) == answers["hottest"]


def test_flow_of_the_sampled_frames_points_where_the_answer_says(clips: list[tuple[Clip, dict[str, Path]]]) -> None:
    for answers, files in clips:
        flow = np.load(files["flow"])["flow"]
        assert flow.shape == (16, 64, 64, 2)
        assert flow.dtype == np.float16
        for frame in (2, 4, 8, 12, 14):
            right, down = flow[frame].astype(float).sum((0, 1))
            said = {"left": -right, "right": right, "up": -down, "down": down}
            assert max(said, key=lambda way: said[way]) == answers["motion"]
            moving = np.abs(flow[frame]).max(-1) > 0
            assert np.abs(flow[frame][moving].astype(float)).max(-1) == pytest.approx(3.5, abs=0.5)


def test_normals_are_unit_vectors_and_the_panel_faces_where_the_answer_says(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    for answers, files in clips:
        normals = np.load(files["normals"])["normals"]
        assert normals.shape == (1, 64, 64, 3)
        assert np.linalg.norm(normals.astype(float), axis=-1) == pytest.approx(1, abs=2e-3)
        right, up, _ = normals[0, :25].astype(float).sum((0, 1))
        said = {"left": -right, "right": right, "up": up, "down": -up}
        assert max(said, key=lambda way: said[way]) == answers["facing"]


def test_the_cloud_is_a_binary_ply_and_what_has_negative_z_has_the_colour_of_the_answer(
    clips: list[tuple[Clip, dict[str, Path]]],
) -> None:
    for answers, files in clips:
        header, _, body = files["pointcloud"].read_bytes().partition(b"end_header\n")
        assert header.decode().splitlines() == [
            "ply", "format binary_little_endian 1.0", "element vertex 384",
            "property float x", "property float y", "property float z",
            "property uchar red", "property uchar green", "property uchar blue",
        ]  # fmt: skip
        points = np.frombuffer(body, dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
        behind = points["xyz"][:, 2] < 0
        assert behind.sum() == 128
        assert nearest_paint(points["rgb"][behind].mean(0)) == answers["behind"]


def test_the_relief_of_the_touch_image_is_of_the_material(clips: list[tuple[Clip, dict[str, Path]]]) -> None:
    for answers, files in clips:
        image = Image.open(files["touch"])
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert material_in(np.array(image).astype(float)[22:42, 22:42]) == answers["material"]


def material_in(pixels: np.ndarray) -> str:
    """Tell by slopes: the red lamp shines along the rows' axis, green minus blue is the slope along the columns'."""
    down, right = pixels[..., 0].std(), (pixels[..., 1] - pixels[..., 2]).std() / np.sqrt(3)
    if max(down, right) < 8:
        return "glass"
    if min(down, right) > 0.5 * max(down, right):
        return "cloth"
    return "wood" if down > right else "metal"
