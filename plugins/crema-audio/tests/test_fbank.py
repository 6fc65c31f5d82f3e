"""Filter banks: torchaudio's numbers with or without torchaudio."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_audio import fbank
from crema_audio.fbank import kaldi_fbank, mel_filters, normalized_fbank


@pytest.fixture
def fresh() -> Iterator[None]:
    fbank._fbank_function.cache_clear()
    yield
    fbank._fbank_function.cache_clear()


@settings(deadline=None, max_examples=20)
@given(st.integers(400, 20_000), st.floats(0, 30_000), st.integers(0, 1000))
def test_our_filter_banks_equal_those_of_torchaudio(num_samples: int, loudness: float, seed: int) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    scaled = loudness * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
    expected = kaldi.fbank(scaled[None], num_mel_bins=128, sample_frequency=16_000)
    torch.testing.assert_close(kaldi_fbank(scaled), expected, atol=1e-3, rtol=1e-4)


def test_a_row_is_ten_milliseconds() -> None:
    assert normalized_fbank(torch.zeros(16_000)).shape == (98, 128)
    assert normalized_fbank(torch.zeros(5)).shape == (1, 128)


def test_silence_is_finite_and_below_everything() -> None:
    silence, noise = normalized_fbank(torch.zeros(4000)), normalized_fbank(0.01 * torch.randn(4000))
    assert bool(torch.isfinite(silence).all())
    assert bool((silence <= noise).all())
    assert float(silence.max()) < float(noise.mean()) - 1


def test_a_tone_lights_its_band() -> None:
    seconds = torch.arange(16_000) / 16_000
    for hertz in (200.0, 1000.0, 5000.0):
        loudest = int(normalized_fbank(torch.sin(2 * torch.pi * hertz * seconds)).mean(dim=0).argmax())
        center = int(mel_filters()[:, round(hertz / 31.25)].argmax())
        assert abs(loudest - center) <= 2


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_without_torchaudio_one_notice_and_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    samples = torch.sin(torch.arange(8000) / 10)
    expected = normalized_fbank(samples)
    fbank._fbank_function.cache_clear()
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchaudio"):
            raise error("built for CUDA 13.0\nsecond line")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.warns(UserWarning) as notices:
        first = normalized_fbank(samples)
    assert [str(notice.message) for notice in notices] == [
        "torchaudio cannot be imported (built for CUDA 13.0). crema-audio computes the same filter banks with torch "
        "alone; nothing needs to be done. To use torchaudio, install the version made for this torch."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = normalized_fbank(samples)
    torch.testing.assert_close(first, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(first, second)
