"""`crema extract`: from videos to files the modalities read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.cli.main import main
from crema_core.data.clips import read_clip
from crema_core.data.data_file import read_data_file
from crema_core.errors import AssetError, MediaError, OptionsError
from crema_core.modality import BuildContext, Modality
from crema_core.plugins import registry
from crema_geometry.extract.frames import read_pairs, shrink, successors
from crema_geometry.extract.lines import write_with_results
from crema_geometry.extract.run import Job, check_record, plan, run_jobs
from crema_geometry.extract.settings import ExtractSettings
from tests.support import experts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("experts")
    return {
        "glpn": experts.save_glpn(place / "glpn"),
        "relative": experts.save_depth_anything(place / "relative"),
        "tips": experts.save_tips(place / "tips"),
        "raft": experts.save_raft(place / "raft.pth"),
    }


def write_clip(path: Path, *, num_frames: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(num_frames):
            pixels = np.full((48, 64, 3), 20 * number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def words(folders: dict[str, Path], *extra: str) -> list[str]:
    depth, raft = str(folders["glpn"]), str(folders["raft"])
    return [*extra, "--depth-model", depth, "--flow-model", "raft_small", "--flow-weights", raft, "--num-frames", "3"]


def prepared(name: str, file: Path) -> torch.Tensor:
    spec = registry.resolve(name).spec
    modality: Modality = spec.load_factory()(spec.parse_options({"num_frames": 3}), BuildContext(image_size=16))
    return modality.prepare(str(file)).tensors["frames"]


@pytest.mark.slow
def test_the_modalities_read_what_is_extracted(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = write_clip(tmp_path / "clips" / "a.mp4"), tmp_path / "out"
    assert main(["extract", "depth,flow,normals", str(clip), "--out", str(out), *words(folders)]) == 0
    assert capsys.readouterr().out == f"3 files written below {out}, 0 kept.\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "a.depth.npz", "a.flow.npz", "a.normals.npz", "extract.json",
    ]  # fmt: skip
    for name in ("depth", "flow", "normals"):
        assert prepared(name, out / f"a.{name}.npz").shape == (3, 3, 16, 16)
    with np.load(out / "a.depth.npz") as file:
        assert file["depth"].shape == (3, 48, 64)
        np.testing.assert_allclose(file["times"], [[0, 2 / 3], [2 / 3, 4 / 3], [4 / 3, 2]], atol=1e-5)


def test_what_is_there_is_kept_and_only_the_rest_is_made(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [str(write_clip(tmp_path / f"{name}.mp4")) for name in "ab"]
    out = tmp_path / "out"
    assert main(["extract", "depth", *clips, "--out", str(out), *words(folders)]) == 0
    first = (out / "a.depth.npz").stat().st_mtime_ns
    (out / "b.depth.npz").unlink()
    capsys.readouterr()
    assert main(["extract", "depth", str(tmp_path), "--out", str(out), *words(folders, "--json")]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": 1, "kept": 1, "failed": {}, "lines": None}
    assert (out / "a.depth.npz").stat().st_mtime_ns == first
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_damaged_video_is_reported_and_the_others_are_done(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "good.mp4")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes((tmp_path / "good.mp4").read_bytes()[:300])
    out = tmp_path / "out"
    code = main(["extract", "depth", str(bad), str(tmp_path / "good.mp4"), "--out", str(out), *words(folders)])
    assert code == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1 files written below {out}, 0 kept."
    assert lines[1].startswith(f"could not be read: {bad}: '{bad}' cannot be read: ")
    assert (out / "good.depth.npz").exists()
    assert not (out / "bad.depth.npz").exists()


@pytest.mark.slow
def test_several_processes_write_the_same_files(folders: dict[str, Path], tmp_path: Path) -> None:
    clips = [str(write_clip(tmp_path / f"{name}.mp4")) for name in "ab"]
    settings = ExtractSettings(modalities=("depth",), depth_model=str(folders["glpn"]), num_frames=2)
    for count in (1, 2):
        out = tmp_path / str(count)
        outcome = run_jobs(plan(clips, settings, out=out, root=None), settings, num_processes=count)
        assert (outcome.written, outcome.kept, outcome.failed) == (2, 0, {})
    for name in "ab":
        one, two = ((tmp_path / count / f"{name}.depth.npz").read_bytes() for count in "12")
        assert one == two


def test_a_data_file_gains_the_results(folders: dict[str, Path], tmp_path: Path) -> None:
    write_clip(tmp_path / "data" / "clips" / "a.mp4")
    write_clip(tmp_path / "data" / "clips" / "one.mp4", num_frames=1)
    lines = [
        {"id": 1, "question": "q", "answer": "a", "video": "clips/a.mp4", "audio": None},
        {"id": "2", "question": "ü", "answer": "a", "type": "t", "video": "clips/one.mp4"},
        {"id": "3", "question": "q", "answer": "a", "depth": "clips/a.mp4"},
    ]
    data_file = tmp_path / "data" / "train.jsonl"
    data_file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    out, copy = tmp_path / "geometry", tmp_path / "copies" / "new.jsonl"
    flags = ["--data", str(data_file), "--out-data", str(copy), "--out", str(out)]
    assert main(["extract", "depth,flow", *flags, *words(folders)]) == 3  # one frame shows no motion
    assert [json.loads(line) for line in copy.read_text().splitlines()] == [
        {
            "id": 1, "question": "q", "answer": "a", "video": "../data/clips/a.mp4", "audio": None,
            "depth": "../geometry/a.depth.npz", "flow": "../geometry/a.flow.npz",
        },
        {"id": "2", "question": "ü", "answer": "a", "type": "t", "video": "../data/clips/one.mp4"},
        {"id": "3", "question": "q", "answer": "a", "depth": "../data/clips/a.mp4"},
    ]  # fmt: skip
    assert len(read_data_file(copy, modalities=["video"])) == 3


def test_lines_without_a_video_are_copied_as_they_are(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    lines = [{"id": str(number), "video": own} for number, own in enumerate([[], None, "", ["a.mp4"], [1]])]
    data.write_text("".join(json.dumps(own) + "\n" for own in lines))
    assert write_with_results(data, tmp_path / "copy.jsonl", {}) == 0
    assert [json.loads(own) for own in (tmp_path / "copy.jsonl").read_text().splitlines()] == lines


def test_a_folder_of_pictures_is_a_video(folders: dict[str, Path], tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(5):
        Image.new("RGB", (64, 48), (40 * number, 0, 0)).save(frames / f"{number}.png")
    assert main(["extract", "depth,flow", str(frames), "--out", str(tmp_path / "out"), *words(folders)]) == 0
    with np.load(tmp_path / "out" / "frames.flow.npz") as file:
        assert file["flow"].shape == (3, 48, 64, 2)
        assert "times" not in file


def test_videos_of_one_name_in_several_folders_stay_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    clips = [str(write_clip(tmp_path / "clips" / place / "x.mp4")) for place in ("a", "b")]
    assert main(["extract", "depth", *clips, "--out", str(tmp_path / "out"), *words(folders)]) == 0
    assert (tmp_path / "out" / "a" / "x.depth.npz").exists()
    assert (tmp_path / "out" / "b" / "x.depth.npz").exists()


def test_two_videos_that_would_write_one_file_are_refused(tmp_path: Path) -> None:
    one, two = (write_clip(tmp_path / f"x{suffix}") for suffix in (".mp4", ".mkv"))
    with pytest.raises(OptionsError) as caught:
        plan([str(one), str(two)], ExtractSettings(modalities=("depth",)), out=tmp_path / "out", root=None)
    assert str(caught.value) == (
        f"'{one}' and '{two}' would both write '{tmp_path / 'out' / 'x'}.*.npz'. Names without their ending are "
        "different. Rename one. Nothing was written."
    )


def test_videos_that_cannot_be_used_stop_everything_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, empty = write_clip(tmp_path / "good.mp4"), tmp_path / "empty.mp4"
    empty.touch()
    words = ["extract", "depth", str(good), f"{tmp_path}/no.mp4", f"{empty}#t=1,2", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "crema: 2 of 3 videos cannot be used:"
    assert lines[1].startswith(f"- '{tmp_path}/no.mp4' does not exist. ")
    assert lines[2].startswith(f"- '{empty}' is empty (0 bytes). ")
    assert lines[3].endswith("pass --on-error skip to leave them out. Nothing was written.")
    assert not (tmp_path / "out").exists()


def test_videos_that_cannot_be_used_may_be_left_out(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:300])
    lines = [{"id": i, "question": "?", "answer": "a", "video": f"{name}.mp4", "audio": "a.wav"}
             for i, name in enumerate(("good", "bad", "gone", "bad"))]  # fmt: skip
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    flags = ["extract", "depth", "--data", str(data), "--out", str(out), *words(folders, "--on-error", "skip")]
    assert main([*flags, "--max-skipped", "0.4"]) == 1
    assert "1 of 2 videos cannot be read, and at most --max-skipped 0.4" in capsys.readouterr().err
    assert main([*flags, "--max-skipped", "0.8"]) == 0
    page = capsys.readouterr()
    assert "this model" not in page.err
    assert "not asked for" not in page.err
    assert [json.loads(line)["line"] for line in (out / "skipped.jsonl").read_text().splitlines()] == [2, 3, 4]
    assert (out / "good.depth.npz").exists()


@pytest.mark.slow
def test_parts_of_a_clip_have_results_of_their_own(folders: dict[str, Path], tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", num_frames=36)
    parts = ["a.mp4#t=1,3", "a.mp4", "a.mp4#t=4.5", "a.mp4#t=,2"]
    lines = [{"id": i, "question": "?", "answer": "a", "video": part} for i, part in enumerate(parts)]
    data, copy, out = tmp_path / "data.jsonl", tmp_path / "new.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ["--data", str(data), "--out-data", str(copy), "--out", str(out)]
    assert main(["extract", "depth,flow", *flags, *words(folders)]) == 0
    assert [json.loads(line)["depth"] for line in copy.read_text().splitlines()] == [
        "out/a.1-3s.depth.npz", "out/a.depth.npz", "out/a.4.5-end.depth.npz", "out/a.0-2s.depth.npz",
    ]  # fmt: skip
    for name, (low, high) in {"a.1-3s": (1, 3), "a.4.5-end": (4.5, 6), "a": (0, 6)}.items():
        with np.load(out / f"{name}.depth.npz") as file:
            np.testing.assert_allclose(file["times"][[0, -1], [0, 1]], [low, high], atol=1e-5)


@pytest.mark.parametrize("part", ["#t=1,3", "#t=0.5", "#t=,1.25", ""])
@pytest.mark.parametrize("fps", [None, 2.0])
def test_frames_of_a_part_are_those_a_modality_takes(tmp_path: Path, part: str, fps: float | None) -> None:
    source = f"{write_clip(tmp_path / 'a.mp4', num_frames=24)}{part}"
    ours = read_pairs(source, num_frames=5, fps=fps, gap_s=None, max_side=512)
    theirs = read_clip(source, num_frames=5, fps=fps)
    assert torch.equal(ours.frames, theirs.frames)
    assert ours.times is not None
    assert torch.equal(ours.times, theirs.times)


def test_a_video_outside_the_root_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    with pytest.raises(OptionsError) as caught:
        plan([str(clip)], ExtractSettings(modalities=("depth",)), out=tmp_path, root=tmp_path / "b")
    assert str(caught.value) == (
        f"'{clip}' is not below --root '{tmp_path / 'b'}'. Results are named after the path below it. Name a folder "
        "that holds all videos. Nothing was written."
    )


def test_one_folder_has_one_way_of_making_a_modality(tmp_path: Path) -> None:
    check_record(ExtractSettings(modalities=("depth",), num_frames=4), tmp_path)
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "clip.depth.npz").touch()
    check_record(ExtractSettings(modalities=("flow",), num_frames=8), tmp_path)
    check_record(ExtractSettings(modalities=("depth",), num_frames=4, batch_size=9), tmp_path)
    before = (tmp_path / "extract.json").read_text()
    with pytest.raises(OptionsError) as caught:
        check_record(ExtractSettings(modalities=("depth", "normals"), num_frames=8), tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' holds depth made with other settings (num_frames: 4 -> 8). One folder has one way of making "
        "each modality. Name another --out, or pass the earlier settings. Nothing was changed."
    )
    assert (tmp_path / "extract.json").read_text() == before


def test_an_attempt_that_made_nothing_does_not_bind_the_folder(tmp_path: Path) -> None:
    check_record(ExtractSettings(modalities=("depth",), num_frames=4), tmp_path)
    settings = ExtractSettings(modalities=("depth",), num_frames=8)
    check_record(settings, tmp_path)
    assert json.loads((tmp_path / "extract.json").read_text()) == {"depth": settings.identity("depth")}


@contextmanager
def dying_processes(count: int, *, begin: object) -> Iterator[Callable[..., Future[Any]]]:
    """Processes that end at once, as when the system takes their memory."""

    def submit(*work: object) -> Future[Any]:
        lost: Future[Any] = Future()
        lost.set_exception(BrokenProcessPool("a process ended"))
        return lost

    yield submit


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crema_geometry.extract.run.worker_processes", dying_processes)
    jobs = [Job(name, {"depth": "y"}, ("depth",)) for name in ("a.mp4", "b.mp4")]
    with pytest.raises(OptionsError) as caught:
        run_jobs(jobs, ExtractSettings(modalities=("depth",)), num_processes=2)
    assert str(caught.value) == (
        "A process of the extraction ended without an answer, most often because the memory was full. Every process "
        "loads its own experts. Run the command again with fewer --processes than 2; what is written is kept."
    )


def test_normals_are_not_derived_from_relative_depth(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = ExtractSettings(modalities=("normals",), depth_model=str(folders["relative"]))
    with pytest.raises(AssetError) as caught:
        run_jobs([Job("x", {"normals": "y"}, ("normals",))], settings)
    assert str(caught.value) == (
        f"Normals cannot be derived from '{folders['relative']}', which gives relative depth. Derivation needs metres. "
        "Pass --normals-model, or a metric --depth-model such as Intel/zoedepth-nyu-kitti."
    )


def test_normals_by_a_model(folders: dict[str, Path], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    flags = ["--normals-model", str(folders["tips"]), "--num-frames", "2", "--max-side", "32"]
    assert main(["extract", "normals", str(clip), "--out", str(tmp_path / "out"), *flags]) == 0
    with np.load(tmp_path / "out" / "a.normals.npz") as file:
        assert file["normals"].shape == (2, 24, 32, 3)


@pytest.mark.parametrize(
    ("modalities", "told"),
    [
        ("depth,sound", "'sound' is not something to estimate. Accepted: depth, flow, normals. Write crema extract "
                        "depth,flow ..."),
        (",", "Nothing was named that is not something to estimate. Accepted: depth, flow, normals. Write crema "
              "extract depth,flow ..."),
        ("depth,depth", "extract: each of depth, flow, normals is named once, got {'modalities': ('depth', "
                        "'depth')}. Give another value, for example the default."),
    ],
)  # fmt: skip
def test_a_wrong_list_of_modalities_is_refused(
    modalities: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", modalities, "a.mp4", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"crema: {told}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "crema extract: name videos, or --data, not both and not neither.\n"),
        (["a.mp4", "--data", "b.jsonl"], "crema extract: name videos, or --data, not both and not neither.\n"),
        (
            ["a.mp4", "--out-data", "b"],
            "crema extract: --out-data writes a copy of --data; name that too.\n",
        ),
    ],
)
def test_wrong_usage_is_told(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "depth", *flags, "--out", "x"]) == 2
    assert capsys.readouterr().err == told


def test_a_setting_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "depth", "a.mp4", "--out", str(tmp_path), "--num-frames", "0"]) == 1
    assert capsys.readouterr().err == (
        "crema: extract.num_frames: input should be greater than or equal to 1, got '0'. Give another value, for "
        "example the default.\n"
    )
    assert main(["extract", "depth", "a.mp4", "--out", str(tmp_path), "--processes", "0"]) == 1
    assert capsys.readouterr().err == (
        "crema: --processes is 0. At least one process works. Leave it out, or write --processes 2.\n"
    )


def levels(frames: torch.Tensor) -> list[int]:
    return [round(float(frame.float().mean()) / 20) for frame in frames]


def test_motion_is_seen_to_the_next_frame_and_for_the_last_from_the_one_before(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    frames = read_pairs(clip, num_frames=12, fps=None, gap_s=None, max_side=512)
    assert frames.pairs is not None
    assert levels(frames.frames) == list(range(12))
    assert levels(frames.pairs[0]) == [*range(11), 10]
    assert levels(frames.pairs[1]) == [*range(1, 12), 11]


def test_a_gap_in_seconds_skips_frames(tmp_path: Path) -> None:
    frames = read_pairs(write_clip(tmp_path / "a.mp4"), num_frames=4, fps=None, gap_s=0.5, max_side=512)
    assert frames.pairs is not None
    assert levels(frames.frames) == [1, 4, 7, 10]
    assert levels(frames.pairs[0]) == [1, 4, 7, 7]
    assert levels(frames.pairs[1]) == [4, 7, 10, 10]


def test_frames_at_a_rate(tmp_path: Path) -> None:
    frames = read_pairs(write_clip(tmp_path / "a.mp4"), num_frames=99, fps=2.0, gap_s=None, max_side=512)
    assert levels(frames.frames) == [1, 4, 7, 10]
    assert frames.times is not None
    assert frames.times[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5]


def test_pictures_have_no_clock(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(MediaError) as caught:
        read_pairs(tmp_path / "a.png", num_frames=2, fps=3.0, gap_s=None, max_side=512)
    assert str(caught.value) == (
        f"'{tmp_path / 'a.png'}' holds pictures without a clock, and frames per second or a gap in seconds were asked. "
        "Those need a clip file. Leave --fps and --flow-gap-s out for pictures."
    )


def test_large_frames_are_made_smaller_and_small_ones_are_not() -> None:
    frames = torch.zeros(1, 3, 100, 200, dtype=torch.uint8)
    assert shrink(frames, 50).shape == (1, 3, 25, 50)
    assert shrink(frames, 200) is frames
    assert shrink(torch.zeros(1, 3, 2, 2000, dtype=torch.uint8), 100).shape == (1, 3, 1, 100)


def test_pairs_never_leave_the_clip() -> None:
    assert successors([0], last=0) == ([0], [0])
    assert successors([2], last=2, ahead=[9]) == ([0], [2])
