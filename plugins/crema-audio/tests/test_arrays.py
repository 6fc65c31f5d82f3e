"""Sounds from memory in every library's layout."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crema_audio.arrays import MOST_CHANNELS, read_mono
from crema_audio.modality import AudioModality
from crema_audio.plugin import SPEC
from crema_audio.sound import read_sound
from crema_core.data.doubts import collect_doubts
from crema_core.errors import MediaError
from crema_core.modality import BuildContext

RATE = 16_000
SOUND = (0.5 * np.sin(np.arange(8000) / 7)).astype(np.float32)


def heard(source: object) -> np.ndarray:
    return read_sound(source, sample_rate_hz=RATE).samples.numpy()


def refusal(source: object) -> str:
    with pytest.raises(MediaError) as caught:
        heard(source)
    return str(caught.value)


@given(channels=st.integers(1, MOST_CHANNELS), samples=st.integers(MOST_CHANNELS + 1, 400))
def test_the_channels_are_the_dimension_that_is_short(channels: int, samples: int) -> None:
    first = np.random.default_rng(0).normal(size=(channels, samples)).astype(np.float32) / 9
    expected = first.mean(axis=0)
    for values in (first, first.T, torch.from_numpy(first), torch.from_numpy(first).T):
        np.testing.assert_allclose(heard(values), expected, atol=1e-7)


def test_what_each_library_returns_is_heard_alike() -> None:
    stereo = np.stack([SOUND, SOUND], axis=1)
    whole = (stereo * 32768).astype(np.int16)
    sources: dict[str, object] = {
        "soundfile.read": (stereo, RATE),
        "scipy.io.wavfile.read": (RATE, whole),
        "scipy.io.wavfile.read, 24 and 32 bits": (RATE, whole.astype(np.int32) << 16),
        "torchaudio.load": (torch.from_numpy(stereo.T.copy()), RATE),
        "librosa.load": (SOUND, np.int64(RATE)),
        "librosa.load, mono=False": (stereo.T, float(RATE)),
        "datasets": {"array": SOUND, "sampling_rate": RATE},
        "one column": SOUND[:, None],
        "one row": SOUND[None],
        "a list": [stereo, RATE],
    }
    for name, source in sources.items():
        np.testing.assert_allclose(heard(source), SOUND, atol=4e-5, err_msg=name)


def test_sounds_of_8_bits_rest_at_128() -> None:
    values = np.round(SOUND * 127 + 128).astype(np.uint8)
    np.testing.assert_allclose(heard((RATE, values)), SOUND, atol=1 / 64)
    np.testing.assert_allclose(heard(np.round(SOUND * 127).astype(np.int8)), SOUND, atol=1 / 64)


def test_soundfile_reads_what_was_heard(tmp_path: object) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = f"{tmp_path}/a.wav"
    soundfile.write(path, np.stack([SOUND, -SOUND / 2], axis=1), RATE, subtype="PCM_16")
    for dtype in ("float32", "float64", "int16", "int32"):
        np.testing.assert_allclose(heard(soundfile.read(path, dtype=dtype)), heard(path), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "why"),
    [((9, 7), "both are few enough for channels"), ((400, 300), f"neither is at most {MOST_CHANNELS}")],
)
def test_a_shape_that_does_not_tell_is_refused(shape: tuple[int, int], why: str) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    assert refusal(values) == (
        f"A sound has shape {shape}, and which dimension are its channels cannot be told: {why}. Accepted: "
        "(channels, S) or (S, channels) with at most 32 channels and more samples. Pass one channel, "
        "values.mean(axis=0) of (channels, S) or values.mean(axis=1) of (S, channels)."
    )
    assert len(heard(values.mean(axis=0))) == shape[1]
    assert len(heard(values.mean(axis=1))) == shape[0]


@pytest.mark.parametrize("values", [np.zeros(9, np.int64), np.zeros(9, bool), np.zeros(9, complex), np.zeros(9, "U1")])
def test_numbers_without_a_full_scale_are_refused(values: np.ndarray) -> None:
    assert refusal(values).startswith(f"A sound came as ndarray of shape (9,) and type {values.dtype}. Accepted: ")


def test_one_channel_keeps_its_bits() -> None:
    assert np.array_equal(read_mono(SOUND, rate_hz=RATE).samples, SOUND)
    whole = (SOUND * 32768).astype(np.int16)
    assert np.array_equal(read_mono(whole, rate_hz=RATE).samples, whole.astype(np.float32) / np.float32(32768))


def test_floats_that_were_whole_numbers_are_noted_and_an_option_scales_them() -> None:
    context = BuildContext()
    loud = AudioModality(SPEC.parse_options({"encoder": "patches"}), context)
    right = AudioModality(SPEC.parse_options({"encoder": "patches", "full_scale": 32768}), context)
    with collect_doubts() as doubts:
        loud.prepare(SOUND * 32768)
    (own,) = {own.text for own in doubts}
    assert own == (
        "The array has samples up to 16,384. Full scale of floats is 1. Set full_scale=32768 if they were 16-bit "
        "numbers, or store the sound as int16."
    )
    with collect_doubts() as doubts:
        read, expected = right.prepare(SOUND * 32768), loud.prepare(SOUND)
    assert doubts == []
    assert torch.equal(read.tensors["windows"], expected.tensors["windows"])


def test_a_doubt_that_nobody_collects_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    modality = AudioModality(SPEC.parse_options({"encoder": "patches"}), BuildContext())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            modality.prepare(SOUND * 23456)
    assert [own for own in caplog.messages if "samples up to" in own] == [
        "The array has samples up to 11,728. Full scale of floats is 1. Set full_scale=32768 if they were 16-bit "
        "numbers, or store the sound as int16."
    ]
