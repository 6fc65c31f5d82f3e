"""Clips that several modalities of a sample read are decoded once, and nobody sees a difference."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from torch import Tensor

from crema_core.data import clips, reuse
from crema_core.data.data_file import Record
from crema_core.data.dataset import Key, ModalityDataset
from crema_core.data.media import read_frames
from crema_core.data.modality_calls import prepare
from crema_core.data.reuse import one_sample, sample_files
from crema_core.data.sampling import Pick, middle_indices
from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins.spec import ModalityOptions
from tests.data.test_clips import write_clip


class Frames(Modality):
    """Reads frames as it was told to, and knows nothing of others."""

    def __init__(self, num_frames: int, *, pick: Pick = middle_indices, **how: float) -> None:
        super().__init__(ModalityOptions(), BuildContext())
        self.num_frames, self.pick, self.how = num_frames, pick, how
        self.kept: list[int] = []

    def prepare(self, source: Any) -> Sample:
        given = source if isinstance(source, list) else [source]
        read = [read_frames(own, num_frames=self.num_frames, pick=self.pick, **self.how) for own in given]
        files = sample_files()
        self.kept = [] if files is None else [len(own.frames) for own in files._kept.values()]
        return Sample({"frames": torch.cat([clip.frames for clip in read])}, read[0].times if len(read) == 1 else None)

    def encode(self, batch: Batch) -> Features:
        return Features(batch["frames"].flatten(2).float()[:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.zeros(1, 3, 8, 8, dtype=torch.uint8)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was opened."""
    count: Counter[str] = Counter()
    given = av.open

    def counted(file: str, *more: Any, **named: Any) -> Any:
        count[Path(file).name] += "w" not in more
        return given(file, *more, **named)

    monkeypatch.setattr(av, "open", counted)
    return count


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all frames of a clip of 16 fit, but nine do."""
    monkeypatch.setattr(reuse, "MOST_BYTES", 9 * 48 * 32 * 3)


def together(modalities: Sequence[Modality], sources: Sequence[object]) -> list[Sample]:
    pairs = list(zip(modalities, sources, strict=True))
    with one_sample(pairs):
        return [prepare(modality, source) for modality, source in pairs]


def require_same(found: Sequence[Sample], modalities: Sequence[Modality], sources: Sequence[object]) -> None:
    assert sample_files() is None
    for own, modality, source in zip(found, modalities, sources, strict=True):
        alone = prepare(modality, source)
        assert torch.equal(own.tensors["frames"], alone.tensors["frames"])
        assert own.times is None if alone.times is None else torch.equal(own.times, alone.times)  # type: ignore[arg-type]


ASKING: tuple[tuple[Modality, ...], ...] = (
    (Frames(4), Frames(16)),
    (Frames(16), Frames(3)),
    (Frames(1), Frames(9, fps=3.0), Frames(2, start_s=0.5, end_s=1.2)),
    (Frames(3), Frames(2, pick=lambda available, wanted: [available - 1, 0])),
)


@pytest.mark.parametrize("modalities", ASKING)
@pytest.mark.parametrize("options", [{"g": "250"}, {"g": "4"}, {"x264-params": "open-gop=1:keyint=5:bframes=3"}])
def test_a_clip_is_opened_once_however_many_frames_each_takes(
    tmp_path: Path, opens: Counter[str], modalities: tuple[Modality, ...], options: dict[str, str]
) -> None:
    path = str(write_clip(tmp_path / "a.mp4", **options))
    opens.clear()
    for num_read in (1, 2):  # in the second sample it is known what each asks for
        found = together(modalities, [path] * len(modalities))
        assert opens["a.mp4"] == num_read
    require_same(found, modalities, [path] * len(modalities))


def test_parts_of_one_file_are_read_in_one_pass(tmp_path: Path, opens: Counter[str]) -> None:
    path = write_clip(tmp_path / "a.mkv", codec="mpeg4", g="4")
    modalities, sources = (
        (Frames(2), Frames(3), Frames(2)),
        [f"{path}#t=0,0.5", f"{path}#t=1,2", [f"{path}", f"{path}"]],
    )
    opens.clear()
    found = together(modalities, sources)
    assert opens["a.mkv"] == 1
    require_same(found, modalities, sources)


@pytest.mark.usefixtures("no_room")
def test_what_was_asked_for_before_is_kept_and_no_more(tmp_path: Path, opens: Counter[str]) -> None:
    first, second = Frames(2), Frames(5)
    paths = [str(write_clip(tmp_path / f"{name}.mp4", num_frames=16 + 4 * name)) for name in range(3)]
    opens.clear()
    numbers = []
    for path in paths:
        found = together([first, second], [path, path])
        numbers.append((opens.pop(Path(path).name), first.kept, second.kept))
        require_same(found, (first, second), (path, path))
        opens.clear()
    assert numbers == [(2, [], []), (1, [5], [5]), (1, [5], [5])]


@pytest.mark.usefixtures("no_room")
def test_more_frames_than_there_is_room_for_are_decoded_by_whom_they_are_for(
    tmp_path: Path, opens: Counter[str]
) -> None:
    modalities, path = (Frames(2), Frames(12)), str(write_clip(tmp_path / "a.mp4"))
    opens.clear()
    for _ in range(2):
        found = together(modalities, [path, path])
    assert opens["a.mp4"] == 4
    assert modalities[0].kept == []
    require_same(found, modalities, [path, path])


def test_frames_larger_than_announced_are_not_kept_beyond_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modalities, path = (Frames(2), Frames(3)), str(write_clip(tmp_path / "a.mp4"))
    spare = reuse.SampleFiles.spare
    monkeypatch.setattr(reuse.SampleFiles, "spare", lambda self, path, timeline, size: spare(self, path, timeline, 1))
    monkeypatch.setattr(reuse, "MOST_BYTES", 2_000)
    found = together(modalities, [path, path])
    assert modalities[0].kept == []
    require_same(found, modalities, [path, path])


def test_nothing_is_kept_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    one, two = (str(write_clip(tmp_path / f"{name}.mp4")) for name in "ab")
    modalities = Frames(1), Frames(2), Frames(3), Frames(4)
    together(modalities, [one, one, two, two])
    assert [own.kept for own in modalities] == [[16], [16], [16], [16]]  # never those of both
    with one_sample([(modalities[0], one), (modalities[1], two)]):
        prepare(modalities[0], one)
        assert modalities[0].kept == []


def test_each_modality_meets_its_own_damage(tmp_path: Path) -> None:
    """The first frames can be decoded; those behind them cannot, and the message is about who wants them."""
    path = write_clip(tmp_path / "a.mp4", num_frames=25, g="25", bf="0", size=(160, 96))
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos]
    raw = bytearray(path.read_bytes())
    raw[places[20] : places[20] + 8] = bytes(8)
    path.write_bytes(raw)
    early, late = Frames(1, end_s=0.3), Frames(8)
    alone = prepare(early, str(path))
    with pytest.raises(MediaError) as expected:
        prepare(late, str(path))
    with one_sample([(early, str(path)), (late, str(path))]):
        assert torch.equal(prepare(early, str(path)).tensors["frames"], alone.tensors["frames"])
        with pytest.raises(MediaError) as caught:
            prepare(late, str(path))
    assert str(caught.value) == str(expected.value)


def test_a_part_that_is_not_there_is_refused_for_whom_it_is(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4"))
    modalities = Frames(2), Frames(2)
    for _ in range(2):
        together(modalities, [path, path])
    with one_sample([(modalities[0], path), (modalities[1], f"{path}#t=7,8")]):
        prepare(modalities[0], path)
        with pytest.raises(MediaError, match="has no frame between 7 s and 8 s; it lasts 2 s"):
            prepare(modalities[1], f"{path}#t=7,8")


def test_joined_recordings_are_decoded_once_more_and_no_oftener(tmp_path: Path, opens: Counter[str]) -> None:
    one = write_clip(tmp_path / "one.ts", codec="mpeg2video", rate=25, g="4")
    path = tmp_path / "two.ts"
    path.write_bytes(one.read_bytes() * 2)
    modalities = Frames(4), Frames(32)
    opens.clear()
    found = together(modalities, [str(path)] * 2)
    assert opens["two.ts"] == 2  # once to see that its times begin again
    require_same(found, modalities, [str(path)] * 2)


def test_a_rule_that_fails_in_a_guess_is_reported_by_who_has_it(tmp_path: Path) -> None:
    path, longer = (str(write_clip(tmp_path / f"{count}.mp4", num_frames=count)) for count in (8, 16))

    def pick(available: int, wanted: int) -> list[int]:
        if available > 8:
            raise MediaError("There are too many. At most 8 are accepted. Cut the clip.")
        return [0]

    modalities = Frames(2), Frames(2, pick=pick)
    together(modalities, [path, path])
    with one_sample([(own, longer) for own in modalities]):
        prepare(modalities[0], longer)
        with pytest.raises(MediaError, match="too many"):
            prepare(modalities[1], longer)


def test_samples_read_in_threads_do_not_meet(tmp_path: Path) -> None:
    paths = [str(write_clip(tmp_path / f"{name}.mp4", num_frames=8 + name)) for name in range(4)]
    found: dict[str, list[Sample]] = {}

    def read(path: str) -> None:
        found[path] = together((Frames(2), Frames(5)), (path, path))

    threads = [threading.Thread(target=read, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path in paths:
        require_same(found[path], (Frames(2), Frames(5)), (path, path))


def test_items_of_a_data_set_open_each_file_once(tmp_path: Path, opens: Counter[str]) -> None:
    path = str(write_clip(tmp_path / "a.mp4"))
    modalities = {"few": Frames(2), "many": Frames(7)}
    dataset = ModalityDataset([Record("a", "?", "!", dict.fromkeys(modalities, path))], modalities, major="few")
    opens.clear()
    item = dataset[Key(0, 0)]
    assert opens["a.mp4"] == 1
    require_same(list(item.samples.values()), list(modalities.values()), [path, path])
    dataset[Key(0, 0, held=("many",))]
    assert opens["a.mp4"] == 4


def test_an_exact_key_frame_is_found_where_containers_count_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MP4 is sought by presentation time; by decoding time it gives the group before, which was decoded in vain."""
    path = write_clip(tmp_path / "a.mp4", num_frames=24, g="6", sc_threshold="0", bf="2")
    begun: list[int | None] = []
    given = clips._from_key

    def noted(*own: Any, **more: Any) -> Iterator[av.VideoFrame]:
        frames = list(given(*own, **more))
        begun.append(round(float(frames[0].time or 0) * 8))
        yield from frames

    monkeypatch.setattr(clips, "_from_key", noted)
    read_frames(str(path), num_frames=4)
    assert begun == [0, 6, 12, 18]


def test_pictures_that_are_renewed_bit_by_bit_are_sought_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"x264-params": "intra-refresh=1:keyint=12"}
    path = write_clip(tmp_path / "a.mp4", num_frames=25, size=(160, 96), **params)
    monkeypatch.setattr(clips, "_decode_all", pytest.fail)
    assert len(read_frames(str(path), num_frames=4).frames) == 4
