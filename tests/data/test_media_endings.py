"""Every ending core names is read as the ffmpeg program reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crema_core.data.clips import Timeline, read_chosen
from crema_core.plugins.spec import CLIP_SUFFIXES, SOUND_SUFFIXES
from tests.support.ffmpeg import ffmpeg, needs_ffmpeg, shown
from tests.support.media_endings import CLIPS, SOUNDS, clip_of

pytestmark = [pytest.mark.slow, needs_ffmpeg]


def test_the_endings_tried_are_all_there_are() -> None:
    assert set(CLIPS) == set(CLIP_SUFFIXES)
    assert set(SOUNDS) | set(CLIPS) - {".gif"} == set(SOUND_SUFFIXES)


def read(path: Path) -> tuple[np.ndarray, Timeline]:
    times: list[Timeline] = []

    def every(timeline: Timeline) -> list[int]:
        times.append(timeline)
        return list(range(len(timeline.starts_s)))

    return read_chosen(path, every).permute(0, 2, 3, 1).numpy(), times[-1]


@pytest.mark.parametrize("suffix", CLIP_SUFFIXES)
def test_a_clip_of_any_ending_is_shown_as_ffmpeg_shows_it(suffix: str, tmp_path: Path) -> None:
    path = clip_of(suffix, tmp_path)
    frames, timeline = read(path)
    expected = shown(path)
    assert np.array_equal(frames, expected.pictures)
    assert timeline.starts_s == pytest.approx(expected.starts_s, abs=1e-3)
    assert timeline.finish_s == pytest.approx(expected.finish_s, abs=1e-2)


def test_the_last_frames_of_a_doubtful_clip_whose_sound_comes_first_are_read(tmp_path: Path) -> None:
    """Packets that empty a decoder carry the number of the first stream, whatever stream they are of."""
    one = clip_of(".ts", tmp_path)
    first = tmp_path / "sound_first.ts"
    ffmpeg("-i", one, "-map", "0:a", "-map", "0:v", "-c:a", "copy", "-c:v", "libx264", "-bf", 3, "-threads", 1, first)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * first.read_bytes())
    frames, _ = read(joined)
    assert len(frames) == len(shown(joined).pictures)
