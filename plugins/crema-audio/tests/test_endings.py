"""Sounds of every ending are heard as the ffmpeg program hears them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crema_audio.sound import read_sound
from crema_core.data.media import SOUND_SUFFIXES
from tests.support.ffmpeg import RATE_HZ, heard, needs_ffmpeg
from tests.support.media_endings import SOUNDS, clip_of, sound_of

pytestmark = [pytest.mark.slow, needs_ffmpeg]
END_S = 0.0125
"""Of AAC in MP4 the program cuts off what fills up the last packet, and the library does not."""
EDGE_S = 0.002
"""Resampling filters settle differently where a sound begins late."""


@pytest.mark.parametrize("suffix", SOUND_SUFFIXES)
def test_a_sound_of_any_ending_is_heard_as_ffmpeg_hears_it(suffix: str, tmp_path: Path) -> None:
    path = sound_of(suffix, tmp_path) if suffix in SOUNDS else clip_of(suffix, tmp_path)
    sound = read_sound(path, sample_rate_hz=RATE_HZ)
    begin = round(sound.start_s * RATE_HZ)
    whole = np.concatenate([np.zeros(begin, np.float32), sound.samples.numpy()])
    expected = heard(path)
    assert len(whole) == pytest.approx(len(expected), abs=END_S * RATE_HZ)
    both = min(len(whole), len(expected)) - round(END_S * RATE_HZ)
    settled = begin + round(EDGE_S * RATE_HZ) if begin else 0
    assert np.abs(whole[settled:both] - expected[settled:both]).max() < 1e-3
    assert np.abs(expected).max() > 0.2
