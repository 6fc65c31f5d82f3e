"""Reading every source once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from crema_core.data import modality_calls
from crema_core.data.check import Finding, Shared, check_sources
from crema_core.data.limits import MAX_BYTES, MAX_SECONDS
from crema_core.errors import DataFileError
from crema_core.modality import Modality, Sample
from crema_core.plugins import registry
from tests.support.modalities import SoundModality, sound_spec
from tests.support.official_datasets import write_clip


@pytest.fixture(autouse=True)
def _sound_is_a_modality() -> None:
    registry.register(sound_spec())


def write(path: Path, *lines: dict[str, str]) -> str:
    rows = [{"id": i, "question": f"{i}?", "answer": "x", **line} for i, line in enumerate(lines)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_fine_sources_have_no_findings_and_are_read_once(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", sound_s=2.0)
    said: list[str] = []
    found = check_sources(
        [write(tmp_path / "d.jsonl", {"video": "a.mp4", "sound": "a.mp4"}, {"video": "a.mp4"})], say=said.append
    )
    assert (list(found.findings.values()), found.shared) == ([[]], ())
    assert said == [
        "reading sources: 1 of 2, 0 unreadable",
        "reading sources: 2 of 2, 0 unreadable",
        "comparing the lengths of sources",
    ]


def test_damaged_files_parts_beyond_the_end_and_unequal_lengths_are_found(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", sound_s=2.0)
    write_clip(tmp_path / "long.mp4", num_frames=60, sound_s=6.0)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:500])
    data_file = write(
        tmp_path / "d.jsonl",
        {"video": "a.mp4"},
        {"video": "cut.mp4"},
        {"video": "a.mp4#t=0,9"},
        {"video": "a.mp4", "sound": "long.mp4"},
        {"video": "cut.mp4"},
    )
    (findings,) = check_sources([data_file]).findings.values()
    assert [(own.kind, own.lines) for own in findings] == [("damaged", (2, 5)), ("length", (3,)), ("length", (4,))]
    assert findings[0].text.startswith(f"video: '{tmp_path / 'cut.mp4'}' cannot be read: ")
    assert findings[1].text.startswith(
        "1 sample has a part beyond the end of its file, first: line 3 (a.mp4#t=0,9 lasts 2."
    )
    assert findings[2].text.startswith("1 sample has sources of different lengths, first: line 4 (video 2.")


def test_lengths_may_differ_by_a_second_or_a_tenth(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.mp4", num_frames=240, sound_s=24.0)
    spans = ("0,2", "0,3.5", "0,20", "0,22")
    data_file = write(
        tmp_path / "d.jsonl",
        *({"video": f"long.mp4#t={span}", "sound": "long.mp4#t=0,3"} for span in spans[:2]),
        *({"video": f"long.mp4#t={span}", "sound": "long.mp4#t=0,20"} for span in spans[2:]),
        {"video": "long.mp4#t=0,4.5", "sound": "long.mp4#t=0,3"},
        {"video": "long.mp4#t=0,23", "sound": "long.mp4#t=0,20"},
        {"video": "long.mp4#t=10,12", "sound": "long.mp4#t=0,2"},
    )
    (findings,) = check_sources([data_file]).findings.values()
    assert [(own.kind, own.lines) for own in findings] == [("length", (5, 6))]


def test_equal_files_are_found_within_and_between_data_files(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4")
    for name in ("b", "c"):
        shutil.copy(tmp_path / "a.mp4", tmp_path / f"{name}.mp4")
    train = write(tmp_path / "train.jsonl", {"video": "a.mp4"}, {"video": "b.mp4"})
    valid = write(tmp_path / "valid.jsonl", {"video": "c.mp4"})
    found = check_sources([train, valid])
    assert found.findings == {
        train: [Finding("duplicate", "The same content is in a.mp4 and b.mp4.", (1, 2))],
        valid: [],
    }
    assert found.shared == (
        Shared(
            "content",
            "2 files are equal in train.jsonl and valid.jsonl, first: a.mp4 and c.mp4.",
            {train: (1, 2), valid: (1,)},
        ),
    )


def test_a_check_that_is_resumed_reads_only_what_is_new_or_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a", "b", "c")):
        write_clip(tmp_path / f"{name}.mp4", num_frames=2 + number)
    (tmp_path / "cut.mp4").write_bytes(b"no clip")
    names = ("a", "cut", "b", "c")
    data_file = write(tmp_path / "d.jsonl", *({"video": f"{name}.mp4"} for name in names))
    log, prepare = tmp_path / "log", modality_calls.prepare

    def watched(modality: Modality, source: object) -> Sample:
        with log.open("a") as file:  # it is another process that reads
            file.write(f"{Path(str(source)).stem}\n")
        return prepare(modality, source)

    def interrupted(text: str) -> None:
        if text.startswith("reading sources: 2"):
            raise KeyboardInterrupt

    monkeypatch.setattr(modality_calls, "prepare", watched)
    keep = tmp_path / "read.jsonl"
    with pytest.raises(KeyboardInterrupt):
        check_sources([data_file], keep=keep, say=interrupted)
    before = log.read_text().split()
    assert before[:2] == ["a", "cut"]
    with keep.open("a") as file:
        file.write('{"source": "tor')  # a line that the interruption cut off
    (resumed,) = check_sources([data_file], keep=keep).findings.values()
    assert log.read_text().split()[len(before) :] == ["b", "c"]
    assert [(own.kind, own.lines) for own in resumed] == [("damaged", (2,))]
    write_clip(tmp_path / "cut.mp4", num_frames=9)
    said: list[str] = []
    assert check_sources([data_file], keep=keep, say=said.append).findings == {data_file: []}
    assert log.read_text().split()[len(before) + 2 :] == ["cut"]
    assert said[0] == "reading sources: 4 of 4, 3 of them before, 0 unreadable"


def test_what_a_bound_refused_is_read_again_under_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", num_frames=2)
    data_file, keep = write(tmp_path / "d.jsonl", {"video": "a.mp4"}), tmp_path / "kept"
    monkeypatch.setenv(MAX_BYTES, "10")
    (refused,) = check_sources([data_file], keep=keep).findings.values()
    assert [own.kind for own in refused] == ["damaged"]
    monkeypatch.setenv(MAX_BYTES, "1GB")
    assert check_sources([data_file], keep=keep).findings == {data_file: []}


def test_another_file_is_not_written_into(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", num_frames=2)
    data_file = write(tmp_path / "d.jsonl", {"video": "a.mp4"})
    text = Path(data_file).read_bytes()
    with pytest.raises(DataFileError, match="does not hold results of an earlier check"):
        check_sources([data_file], keep=data_file)
    assert Path(data_file).read_bytes() == text


@pytest.mark.slow
def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    lines = []
    for number in range(20):
        write_clip(tmp_path / f"{number}.mp4", num_frames=2 + number % 3)
        if number % 7 == 3:
            (tmp_path / f"{number}.mp4").write_bytes(b"no clip")
        lines += [{"video": f"{number}.mp4"}] * (1 + number % 2)
    data_file = write(tmp_path / "d.jsonl", *lines)
    alone, together = (check_sources([data_file], num_processes=count) for count in (1, 2))
    assert alone == together
    assert sum(own.kind == "damaged" for own in alone.findings[data_file]) == 3


def test_absent_files_are_left_to_the_quick_check(tmp_path: Path) -> None:
    assert check_sources([write(tmp_path / "d.jsonl", {"video": "no.mp4"})]).findings == {str(tmp_path / "d.jsonl"): []}


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a decoder do what the name of a file says, as native code does."""

    def decode(source: object) -> None:
        match Path(str(source)).stem:
            case "crashes":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "is-killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(60)
            case "leaves":
                os._exit(3)

    def prepare(self: Modality, source: object) -> Sample:
        decode(source)
        return Sample({"x": torch.zeros(1, 1)})

    monkeypatch.setattr(SoundModality, "prepare", prepare)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.usefixtures("ending")
def test_a_decoder_that_ends_its_process_or_hangs_is_a_finding_and_the_check_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_processes: int
) -> None:
    monkeypatch.setenv(MAX_SECONDS, "1")
    names = ["fine", "crashes", "is-killed", "hangs", "leaves", "crashes", "last"]
    for name in names:
        (tmp_path / f"{name}.wav").write_text(name)
    data_file, keep = write(tmp_path / "d.jsonl", *({"sound": f"{name}.wav"} for name in names)), tmp_path / "kept"
    before = set(multiprocessing.active_children())
    (findings,) = check_sources([data_file], num_processes=num_processes, keep=keep).findings.values()
    said = {own.text.partition("'")[2].split("'")[0].rpartition("/")[2]: own for own in findings}
    assert {name: (own.kind, own.lines) for name, own in said.items()} == {
        "crashes.wav": ("damaged", (2, 6)),
        "is-killed.wav": ("damaged", (3,)),
        "hangs.wav": ("damaged", (4,)),
        "leaves.wav": ("damaged", (5,)),
    }
    assert "ended the process that read it (SIGSEGV). A source is read or refused" in said["crashes.wav"].text
    assert "(SIGKILL: by the system, mostly because memory ran out" in said["is-killed.wav"].text
    assert "took longer than 1 s, and the process that read it was ended" in said["hangs.wav"].text
    assert "(exit code 3)" in said["leaves.wav"].text
    assert set(multiprocessing.active_children()) <= before
    assert len(keep.read_text().splitlines()) == 2  # what may be otherwise another time is read again
