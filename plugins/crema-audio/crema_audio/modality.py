"""The audio modality: windows of sound, encoded with time stamps."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from crema_audio.drawing import draw_sound
from crema_audio.encoders import BACKBONE, make_encoder
from crema_audio.fbank import SAMPLE_RATE_HZ
from crema_audio.level import leveled
from crema_audio.plugin import SPEC, AudioOptions, chosen_options
from crema_audio.sound import Waveform, open_sound
from crema_core.data.media import name_of
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample


class AudioModality(Modality):
    """Sounds of any rate, length and number of channels; every window is one step in time."""

    spec = SPEC
    options: AudioOptions

    def __init__(self, options: AudioOptions, context: BuildContext) -> None:
        super().__init__(chosen_options(options, pretrained=context.pretrained), context)
        self.encoder = make_encoder(self.options, context)

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's tokens."""
        return self.encoder.feature_dim

    @property
    def uses_backbone(self) -> bool:
        """Whether the backbone itself hears."""
        return self.options.encoder == BACKBONE

    def load_assets(self, folder: Path | None) -> None:
        """Load the weights of an encoder that has some."""
        self.encoder.load()

    def load_shapes(self) -> None:
        """Build the same encoder without weights, to count it."""
        self.encoder.load_shapes()

    def prepare(self, source: object) -> Sample:
        """Read a sound and cut it into windows.

        Args:
            source: a sound or video file, an array at 16 kHz, or a pair `(array, rate_hz)`; see
                `crema_audio.sound.open_sound` and `crema_audio.arrays.read_mono`.

        Returns:
            `windows` `(T, ...)`, what the encoder takes (`patches`, `beats`: filter banks `(T, F, 128)`, F a multiple
            of 16, zero behind the sound's end); `lengths` `(T,)`, what of them is real, in frames of 10 ms or samples;
            times `(T, 2)` on the clock of the file.

        Raises:
            MediaError: when the source is absent, empty, damaged, of another type or without sound.
        """
        sound = self._open(source, self.encoder.sample_rate_hz)
        inputs, lengths, spans = self.encoder.cut(sound)
        times = torch.tensor([(sound.start_s + start, sound.start_s + end) for start, end in spans])
        return Sample({"windows": inputs, "lengths": lengths}, times)

    def encode(self, batch: Batch) -> Features:
        """Encode every window: `(B, T, ...)` -> `(B, T, N, D)`, mask `(B, T, N)`."""
        assert batch.times is not None, "prepare gives every sample times"
        values, mask = self.encoder(batch["windows"], batch["lengths"], batch.times[..., 0])
        return Features(values, mask & batch.mask[..., None], batch.times)

    def show(self, source: object) -> Tensor:
        """Return the spectrogram of the whole sound and of every window that is listened to."""
        rate_hz, sound = self.encoder.sample_rate_hz, self._open(source, SAMPLE_RATE_HZ)
        heard = sound if rate_hz == SAMPLE_RATE_HZ else self._open(source, rate_hz)
        return draw_sound(sound, self.encoder.spans(heard))

    def _open(self, source: object, rate_hz: int) -> Waveform:
        """Return the part of a sound that the options name, at a rate."""
        options, name = self.options, name_of(source)
        if isinstance(source, torch.Tensor) or hasattr(source, "__array__"):
            source = (source, SAMPLE_RATE_HZ)  # a bare array means the same whatever rate the encoder takes
        sound = open_sound(source, sample_rate_hz=rate_hz, start_s=options.start_s, end_s=options.end_s)
        return leveled(sound, full_scale=options.full_scale, name=name)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a second of a decaying tone of 200 to 2000 Hz in noise, `(16000,)`."""
        seconds = torch.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        pitch_hz = 200 * 10 ** float(torch.rand((), generator=generator))
        tone = torch.sin(2 * math.pi * pitch_hz * seconds) * torch.exp(-3 * seconds)
        return 0.5 * tone + 0.01 * torch.randn(SAMPLE_RATE_HZ, generator=generator)
