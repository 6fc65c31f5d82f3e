"""`crema encode` and `crema cache`, on a few clips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from crema_core.api.describe import Cost
from crema_core.api.model import CremaModel
from crema_core.cli.inputs import duration_s, num_bytes
from crema_core.cli.main import main
from crema_core.errors import OptionsError
from crema_core.features.cache.folder import read_entries
from tests.support.world import MODALITIES, QUICK


def encode(clips: Path, tiny: Path, cache: Path, *more: str) -> list[str]:
    frames = ["--set", "video.num_frames=2", "--set", "depth.num_frames=1"]
    words = ["encode", str(clips), "--modalities", MODALITIES, "--backbone", str(tiny), "--cache", str(cache)]
    return [*words, *frames, "--json", *more]


@pytest.fixture(scope="module")
def filled(clips: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of six clips in two modalities, which tests only read."""
    cache = tmp_path_factory.mktemp("filled") / "cache"
    assert main(encode(clips, tiny_folder, cache)) == 0
    return cache


def contents(cache: Path) -> dict[str, tuple[str, bytes]]:
    """Return everything kept: by encoder's folder and tensor name, format and bytes."""
    found = {}
    for path in cache.glob("features/*/*.safetensors"):
        with safe_open(path, "np") as shard:
            for key in shard.keys():  # noqa: SIM118 - not a mapping
                array = shard.get_tensor(key)
                found[f"{path.parent.name}/{key}"] = (f"{array.dtype}{array.shape}", array.tobytes())
    return found


@pytest.mark.slow
def test_encoding_twice_finds_everything_the_second_time(
    clips: Path, tiny_folder: Path, filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CremaModel, "encode", lambda *_: pytest.fail("an encoder ran"))
    assert main(encode(clips, tiny_folder, filled)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["encoded"] == {"video": 0, "depth": 0}
    assert found["found"] == {"video": 6, "depth": 6}
    assert found["written_bytes"] == 0
    assert found["num_bytes"] == sum(path.stat().st_size for path in filled.rglob("*") if path.is_file())


@pytest.mark.slow
def test_fit_and_eval_from_the_folder_run_no_encoder_and_give_the_run_without_it(
    clips: Path,
    tiny_folder: Path,
    filled: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode_batch = CremaModel.encode

    def only_empty(self: CremaModel, batches: dict) -> dict:  # type: ignore[type-arg]
        assert not batches, "an encoder ran"
        return encode_batch(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(CremaModel, "encode", only_empty)
        # Costs are counted on a made-up clip, which is in no cache.
        patch.setattr("crema_core.api.describe.cost_of", lambda model, names, **_: Cost(tuple(names), 1, {}))
        patch.chdir(filled.parent)
        words = [
            "fit",
            str(clips),
            "--eval-data",
            str(clips),
            "--modalities",
            MODALITIES,
            "--backbone",
            str(tiny_folder),
        ]
        words += [*QUICK, "--set", "early_exit=1.8", "--set", "load_best=false", "--set", "cache=cache"]
        assert main([*words, "--out", str(tmp_path / "r")]) == 0
        assert main(["eval", str(tmp_path / "r"), str(clips), "--cache", "cache", "--json"]) == 0
    captured = capsys.readouterr()
    assert "features: 0 sources encoded, 12 from the cache" in captured.err
    assert json.loads((tmp_path / "r" / "config.json").read_text())["settings"]["cache"] == str(filled)
    for file in ("video/adapter.safetensors", "depth/adapter.safetensors"):
        assert (tmp_path / "r" / "model" / file).read_bytes() == (trained / "model" / file).read_bytes()


@pytest.mark.slow
def test_an_answer_about_files_in_the_folder_runs_no_encoder(
    clips: Path, trained: Path, filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.loads(clips.read_text().splitlines()[0])
    words = ["answer", str(trained), "which?", "--depth", str(clips.parent / line["depth"]), "--json"]
    assert main(words) == 0
    expected = json.loads(capsys.readouterr().out)
    monkeypatch.setattr("crema_core.model.network.ModalityBranch.encode", lambda *_: pytest.fail("an encoder ran"))
    assert main([*words, "--cache", str(filled)]) == 0
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.slow
def test_two_processes_leave_the_content_of_one(
    clips: Path, tiny_folder: Path, filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    # Sources pass the encoder one at a time, so that results do not depend on who comes with whom.
    assert main(encode(clips, tiny_folder, tmp_path / "one", "--batch-size", "1")) == 0
    capsys.readouterr()
    assert main(encode(clips, tiny_folder, cache, "--batch-size", "1", "--processes", "2")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["encoded"] == {"video": 6, "depth": 6}
    assert contents(cache) == contents(tmp_path / "one")
    assert contents(cache).keys() == contents(filled).keys()
    writers = {path.name.split("-")[1] for path in cache.glob("features/*/*.safetensors")}
    assert len(writers) >= 2


def test_parts_of_a_job_array_fill_one_folder(
    clips: Path, tiny_folder: Path, filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoded = 0
    for part in ("1/2", "2/2"):
        assert main(encode(clips, tiny_folder, tmp_path / "cache", "--part", part)) == 0
        encoded += sum(json.loads(capsys.readouterr().out)["encoded"].values())
    assert encoded == 12
    assert contents(tmp_path / "cache").keys() == contents(filled).keys()


@pytest.mark.slow
def test_an_error_in_one_process_is_told_in_its_words(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"id": "1", "question": "what ?", "answer": "x", "video": "broken.mp4"}) + "\n")
    words = ["encode", str(data), "--backbone", str(tiny_folder), "--cache", str(tmp_path / "c"), "--processes", "2"]
    assert main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"crema: Sample '1' (line 1): '{broken}' cannot be read: FFmpeg reports ")


def test_a_full_folder_ends_encoding_with_what_to_do(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    assert main(encode(clips, tiny_folder, cache, "--max-size", "1kB")) == 1
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert first.startswith(f"crema: warning: The feature cache '{cache}' is full: it holds ")
    assert second == (
        "crema: The feature cache has no room for 6 of 6 sources of 'video'. Nothing was deleted. Allow more, or make "
        "room with crema cache evict, and run this again."
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--part", "0/2"], "--part is '0/2'. Accepted: I/N with I from 1 to N. Write --part 3/100, for example."),
        (["--processes", "0"], "--processes is 0. At least 1 is needed. Write --processes 2."),
        (
            ["--cache", "none"],
            "Features have nowhere to go: cache is 'none'. A folder is needed. Write --cache features.",
        ),
        (
            ["--max-size", "many"],
            "'many' is not a size. Accepted: a number and one of b, kb, mb, gb, tb. Write 20GB, for example. Nothing "
            "was changed.",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(
    words: list[str], message: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", str(clips), "--cache", str(tmp_path / "c"), *words]) == 1
    assert capsys.readouterr().err == f"crema: {message}\n"
    assert not (tmp_path / "c").exists()


def test_show_lists_modalities_sources_and_sizes(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "show", str(filled), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(own["modality"], own["num_sources"], own["kept_in"]) for own in found["modalities"]] == [
        ("depth", 6, "as encoded"),
        ("video", 6, "as encoded"),
    ]
    assert main(["cache", "show", str(filled)]) == 0
    text = capsys.readouterr().out
    assert "video     crema-core 0.1.0" in text
    assert text.splitlines()[-1].endswith(" in all")


@pytest.mark.slow
def test_check_finds_damage_and_evict_removes_it(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    main(encode(clips, tiny_folder, cache))
    assert main(["cache", "check", str(cache)]) == 0
    (video,) = cache.glob("features/video-*/*.safetensors")
    (depth,) = cache.glob("features/depth-*/*.safetensors")
    content = bytearray(video.read_bytes())
    digest, entry = next(iter(read_entries(video).items()))
    content[entry.parts["values"].start] ^= 1
    video.write_bytes(content)
    depth.write_bytes(depth.read_bytes()[:-1])
    left = cache / "features" / ".left-by-a-killed-writer"
    left.touch()
    os.utime(left, (0, 0))
    capsys.readouterr()
    assert main(["cache", "check", str(cache), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["intact"] == {video.parent.name: 5}
    assert [(own["file"], own["digest"]) for own in found["damaged"]] == [
        (depth.relative_to(cache).as_posix(), None),
        (video.relative_to(cache).as_posix(), digest),
        ("features/.left-by-a-killed-writer", None),
    ]
    assert main(["cache", "evict", str(cache), "--damaged", "--dry-run"]) == 0
    assert video.exists()
    assert main(["cache", "evict", str(cache), "--damaged"]) == 0
    assert not any(path.exists() for path in (video, depth, left))
    assert main(["cache", "check", str(cache)]) == 0


def test_evict_removes_the_longest_unused_first_and_nothing_without_being_told(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    main(encode(clips, tiny_folder, cache))
    (video,) = cache.glob("features/video-*/*.safetensors")
    (depth,) = cache.glob("features/depth-*/*.safetensors")
    old = time.time() - 40 * 86400
    os.utime(depth, (old, old))
    capsys.readouterr()
    assert main(["cache", "evict", str(cache)]) == 2
    assert capsys.readouterr().err == (
        "crema cache evict: nothing states what to remove. Accepted: --older-than AGE, --max-size SIZE, --damaged. "
        "Name at least one. Nothing was changed.\n"
    )
    assert main(["cache", "evict", str(cache), "--older-than", "50d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == []
    total = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert main(["cache", "evict", str(cache), "--max-size", f"{total - 1}B", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [depth.relative_to(cache).as_posix()]
    assert video.exists()
    os.utime(video, (old, old))
    assert main(["cache", "evict", str(cache), "--older-than", "30d"]) == 0
    assert not video.exists()


@pytest.mark.slow
def test_reading_features_counts_as_using_them(
    clips: Path, tiny_folder: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    main(encode(clips, tiny_folder, cache))
    old = time.time() - 40 * 86400
    for path in cache.glob("features/*/*.safetensors"):
        os.utime(path, (old, old))
    assert main(["eval", str(trained), str(clips), "--modalities", "depth", "--cache", str(cache)]) == 0
    capsys.readouterr()
    assert main(["cache", "evict", str(cache), "--older-than", "1d", "--json"]) == 0
    (gone,) = json.loads(capsys.readouterr().out)["files"]
    assert gone.startswith("features/video-")


def test_another_folder_is_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    for action in (["show"], ["check"], ["evict", "--max-size", "1B"]):
        assert main(["cache", action[0], str(tmp_path), *action[1:]]) == 1
        assert capsys.readouterr().err == (
            f"crema: '{tmp_path}' is no feature cache (its crema-cache.json cannot be read). Accepted: a folder that "
            "crema encode, or fit with cache=DIR, wrote. Check the path. Nothing was changed.\n"
        )
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
def test_looking_after_a_cache_imports_no_torch(filled: Path) -> None:
    code = (
        "import sys; from crema_core.cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'numpy', 'safetensors')))"
    )
    for action in (["show"], ["check"], ["evict", "--dry-run", "--older-than", "1d"]):
        words = [sys.executable, "-c", code, "cache", action[0], str(filled), *action[1:]]
        assert subprocess.run(words, check=False, capture_output=True).returncode == 0


def test_amounts_have_units() -> None:
    assert (num_bytes("1.5GB"), num_bytes("20 kb"), duration_s("2h"), duration_s("30d")) == (
        1_500_000_000,
        20_000,
        7200.0,
        2_592_000.0,
    )
    with pytest.raises(OptionsError) as caught:
        duration_s("30 weeks")
    assert str(caught.value) == (
        "'30 weeks' is not a duration. Accepted: a number and one of s, m, h, d. Write 30d, for example. Nothing was "
        "changed."
    )
